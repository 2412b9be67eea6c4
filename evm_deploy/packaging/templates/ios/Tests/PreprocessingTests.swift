import XCTest

@testable import @NAME@

/// The pixels that the network sees are those of the library that it was evaluated with, to the bit.
final class PreprocessingTests: XCTestCase {
    private struct Case: Decodable {
        let image: String
        let crop: String
        let input: String
        let orientation: Int
        let preprocessing: Preprocessing
    }

    func testCropsAsTheExporterDoes() throws {
        let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: url("cases.json")))
        XCTAssertFalse(cases.isEmpty)
        for each in cases {
            let found = try each.preprocessing.crop(image(each.image).upright(each.orientation))
            XCTAssertEqual(each.preprocessing.ordered(found.rgb), try image(each.crop).rgb, each.crop)
            XCTAssertEqual(each.preprocessing.normalised(found), try array(each.input).floats(), each.input)
        }
    }

    private func image(_ name: String) throws -> Pixels {
        let read = try array(name)
        return try Pixels(width: read.shape[1], height: read.shape[0], rgb: [UInt8](read.bytes))
    }

    private func array(_ name: String) throws -> Npy {
        try Npy(parsing: Data(contentsOf: url(name)))
    }

    private func url(_ name: String) throws -> URL {
        try XCTUnwrap(Bundle.module.resourceURL).appendingPathComponent("Vectors").appendingPathComponent(name)
    }
}
