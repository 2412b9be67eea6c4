import CryptoKit
import Foundation

/// An input or output of the network.
struct TensorSpec: Decodable, Sendable {
    let name: String
    let dtype: String
    let meaning: String
}

/// What follows the network: a graph in a file, and the outputs of the network, which it takes after the image.
struct SeparateGraph: Decodable, Sendable {
    let file: String
    let given: [TensorSpec]
}

/// What is read of `manifest.json`.
struct Manifest: Decodable, Sendable {
    let schemaVersion: Int
    let task: ModelTask
    let target: String
    let precision: String
    let modelFile: String
    let labels: String?
    let inputs: [TensorSpec]
    let outputs: [TensorSpec]
    let preprocessing: Preprocessing
    let files: [String: String]
    let lastSteps: SeparateGraph?

    private enum CodingKeys: String, CodingKey {
        case schemaVersion = "schema_version"
        case modelFile = "model_file"
        case lastSteps = "last_steps"
        case task, target, precision, labels, inputs, outputs, preprocessing, files
    }
}

/// The files of a network, each checked against the manifest when it is read.
public struct ModelBundle: Sendable {
    private static let largestManifest = 1 << 20

    public let folder: URL
    /// The hash that stands for every file of the bundle.
    public let sha256: String
    let manifest: Manifest

    /// Throws ModelError where the folder holds no bundle for Core ML.
    public init(folder: URL) throws {
        let text = try Data(contentsOf: folder.appendingPathComponent("manifest.json"))
        guard text.count <= Self.largestManifest else { throw ModelError("the manifest is too large") }
        self.folder = folder
        sha256 = hexDigest(text)
        do {
            manifest = try JSONDecoder().decode(Manifest.self, from: text)
        } catch {
            throw ModelError("the manifest is not valid: \(error)")
        }
        guard manifest.schemaVersion == 1 else { throw ModelError("the manifest has another version") }
        guard manifest.target == "coreml", manifest.inputs.count == 1 else { throw ModelError("it is not for Core ML") }
        let (task, meanings) = (manifest.task, manifest.outputs.map(\.meaning))
        guard task.meanings == nil || task.meanings == meanings, (task.locate != nil) == manifest.preprocessing.fits
        else { throw ModelError("no bundle of \(task.title)") }
    }

    public var precision: String { manifest.precision }

    /// Bytes of the network.
    public var size: Int {
        let places = modelFiles.map { folder.appendingPathComponent($0) }
        return places.compactMap { try? $0.resourceValues(forKeys: [.fileSizeKey]).fileSize }.reduce(0, +)
    }

    /// The network's package, after each of its files was held against its hash.
    func verifiedModel() throws -> URL {
        guard !modelFiles.isEmpty else { throw ModelError("the manifest does not list the network") }
        for name in modelFiles { _ = try read(name) }
        return folder.appendingPathComponent(manifest.modelFile)
    }

    /// The graph that follows the network, after it was held against its hash; nil: the network gives the outputs.
    func verifiedLastSteps() throws -> URL? {
        guard let graph = manifest.lastSteps else { return nil }
        _ = try read(graph.file)
        return folder.appendingPathComponent(graph.file)
    }

    /// The names of the classes, or nil.
    public func labels() throws -> [String]? {
        guard let name = manifest.labels else { return nil }
        var lines = String(decoding: try read(name), as: UTF8.self).components(separatedBy: "\n")
        if lines.last == "" { lines.removeLast() }
        return lines
    }

    /// The input of the golden pair.
    public func goldenInput() throws -> Npy { try Npy(parsing: read("sample/input.npy")) }

    /// What the network must give for it.
    public func goldenOutputs() throws -> [Output] {
        let count = manifest.outputs.count
        let names = count == 1 ? ["sample/output.npy"] : (0..<count).map { "sample/output\($0).npy" }
        return try names.map {
            let array = try Npy(parsing: read($0))
            return Output(shape: array.shape, values: array.floats())
        }
    }

    /// How far outputs are from the expected ones: by numbers, of detections by matching, of pixels by their classes.
    public func judge(_ found: [Output], _ expected: [Output], _ tolerance: Double) throws -> Verdict {
        try manifest.task.judge(found, expected, tolerance)
    }

    private var modelFiles: [String] {
        manifest.files.keys.filter { $0 == manifest.modelFile || $0.hasPrefix(manifest.modelFile + "/") }.sorted()
    }

    private func read(_ name: String) throws -> Data {
        guard let expected = manifest.files[name] else { throw ModelError("the manifest does not list \(name)") }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.allSatisfy({ !["", ".", ".."].contains($0) }) else { throw ModelError("\(name) leaves the bundle") }
        let bytes = try Data(contentsOf: folder.appendingPathComponent(name))
        guard hexDigest(bytes) == expected else { throw ModelError("\(name) is not the file that was exported") }
        return bytes
    }
}

private func hexDigest(_ bytes: Data) -> String {
    SHA256.hash(data: bytes).map { String(format: "%02x", $0) }.joined()
}
