import CoreML
import XCTest

@testable import @NAME@

/// Each network gives on this device what it gave when it was exported.
final class GoldenPairTests: XCTestCase {
    func testOnTheCPU() async throws {
        for model in Model.allCases { try await check(model, .cpuOnly, model.tolerance) }
    }

    /// The GPU and the Neural Engine may compute in float16, whatever the network says.
    func testWhereverItRuns() async throws {
        for model in Model.allCases { try await check(model, .all, max(model.tolerance, @FP16@)) }
    }

    func testAChangedByteIsFound() throws {
        let model = try XCTUnwrap(Model.allCases.first)
        let copy = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: copy) }
        try FileManager.default.copyItem(at: model.bundle().folder, to: copy)
        let file = copy.appendingPathComponent("sample/input.npy")
        var bytes = try Data(contentsOf: file)
        bytes[bytes.count - 1] ^= 1
        try bytes.write(to: file)
        XCTAssertThrowsError(try ModelBundle(folder: copy).goldenInput())
    }

    /// The profile is kept with the test's results.
    func testProfile() async throws {
        let data = try await Benchmark.profile(iterations: 20)
        let profile = XCTAttachment(data: data, uniformTypeIdentifier: "public.json")
        profile.name = "profile.json"
        profile.lifetime = .keepAlways
        add(profile)
    }

    private func check(_ model: Model, _ units: MLComputeUnits, _ tolerance: Double) async throws {
        let bundle = try model.bundle()
        let runner = try await ModelRunner(bundle, units: units)
        let found = try runner.run(bundle.goldenInput())
        let verdict = try bundle.judge(found, bundle.goldenOutputs(), tolerance)
        let error = try XCTUnwrap(verdict.error, "\(model) on \(units)")
        XCTAssertLessThanOrEqual(error, verdict.most, "\(model) on \(units)")
    }
}
