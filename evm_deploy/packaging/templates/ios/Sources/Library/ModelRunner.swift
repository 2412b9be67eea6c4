import CoreGraphics
import CoreML
import CoreVideo
import Foundation

/// A network, ready to run. It may be used by several threads.
public final class ModelRunner: @unchecked Sendable {  // a loaded MLModel may be
    public let bundle: ModelBundle
    public let units: MLComputeUnits
    private let labels: [String]?
    private let model: MLModel
    private let lastSteps: LastSteps?

    /// `units` is where Core ML may run it. Throws ModelError for a damaged bundle, and what Core ML throws.
    public init(_ bundle: ModelBundle, units: MLComputeUnits = .all) async throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        self.bundle = bundle
        self.units = units
        labels = try bundle.labels()
        lastSteps = try bundle.verifiedLastSteps().map { try LastSteps($0) }
        model = try await MLModel.load(contentsOf: CompiledModels.url(of: bundle), configuration: configuration)
    }

    /// The `top` best classes of an image, best first. `orientation` is the one of the photograph's file.
    public func classify(
        _ image: CGImage, top: Int = 5, orientation: CGImagePropertyOrientation = .up
    ) async throws -> [Prediction] {
        try await classify(Pixels(image, orientation: orientation), top: top)
    }

    /// The `top` best classes of a camera's frame, best first.
    public func classify(
        _ frame: CVPixelBuffer, top: Int = 5, orientation: CGImagePropertyOrientation = .up
    ) async throws -> [Prediction] {
        try await classify(Pixels(frame, orientation: orientation), top: top)
    }

    /// The `top` best classes of an image file, PNG or JPEG, turned as its EXIF says, best first.
    public func classify(contentsOf file: URL, top: Int = 5) async throws -> [Prediction] {
        try await classify(Pixels(contentsOf: file), top: top)
    }

    /// The `top` best classes of an image, best first. Throws ModelError for a network without classes.
    public func classify(_ image: Pixels, top: Int = 5) async throws -> [Prediction] {
        let manifest = bundle.manifest
        guard manifest.task == .classification else { throw ModelError("the network is \(manifest.task.title)") }
        let scores = try await outputs(image)[0].values
        return try best(scores, logits: manifest.outputs[0].meaning == "logits", labels: labels, top: top)
    }

    /// What a detector or segmenter finds in an image, in the pixels of the upright image.
    public func find(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) async throws -> Findings {
        try await find(Pixels(image, orientation: orientation))
    }

    /// What it finds in a camera's frame, in the pixels of the upright image.
    public func find(_ frame: CVPixelBuffer, orientation: CGImagePropertyOrientation = .up) async throws -> Findings {
        try await find(Pixels(frame, orientation: orientation))
    }

    /// What it finds in an image file, PNG or JPEG, turned as its EXIF says.
    public func find(contentsOf file: URL) async throws -> Findings {
        try await find(Pixels(contentsOf: file))
    }

    /// What it finds in an image, in its pixels. Throws ModelError for another network.
    public func find(_ image: Pixels) async throws -> Findings {
        let manifest = bundle.manifest
        guard let locate = manifest.task.locate else { throw ModelError("the network is \(manifest.task.title)") }
        return try await locate(outputs(image), manifest.preprocessing.place(image), labels)
    }

    /// What the network gives for an image, in the order of the manifest.
    public func outputs(_ image: Pixels) async throws -> [Output] {
        try await Task.detached(priority: .userInitiated) { [self] in
            let steps = bundle.manifest.preprocessing
            let cropped = try steps.crop(image)
            return try steps.baked ? run(feature(cropped), []) : run(steps.normalised(cropped))
        }.value
    }

    /// What it gives for an input that was prepared elsewhere, as the golden pair is. Blocks its thread.
    public func run(_ input: Npy) throws -> [Output] {
        let steps = bundle.manifest.preprocessing
        guard steps.baked else { return try run(input.floats()) }
        let rgb = steps.ordered([UInt8](input.bytes))
        let pixels = try Pixels(width: steps.size.width, height: steps.size.height, rgb: rgb)
        return try run(feature(pixels), [])
    }

    private func run(_ values: [Float]) throws -> [Output] { try run(feature(values), values) }

    /// `values` are those of the feature, for what follows the network.
    private func run(_ feature: MLFeatureValue, _ values: [Float]) throws -> [Output] {
        let manifest = bundle.manifest
        let input = try MLDictionaryFeatureProvider(dictionary: [manifest.inputs[0].name: feature])
        let found = try model.prediction(from: input, options: MLPredictionOptions())
        guard let lastSteps, let graph = manifest.lastSteps else {
            return try manifest.outputs.map { try output($0, of: found) }
        }
        let size = manifest.preprocessing.size
        var inputs = [manifest.inputs[0].name: Output(shape: [1, 3, size.height, size.width], values: values)]
        for spec in graph.given { inputs[spec.name] = try output(spec, of: found) }
        return try lastSteps.run(inputs, names: manifest.outputs.map(\.name))
    }

    private func feature(_ values: [Float]) throws -> MLFeatureValue {
        let size = bundle.manifest.preprocessing.size
        let shape = [1, 3, size.height, size.width]
        guard values.count == shape.reduce(1, *) else { throw ModelError("an input of \(values.count) values") }
        let array = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: .float32)
        values.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress { array.dataPointer.copyMemory(from: start, byteCount: bytes.count) }
        }
        return MLFeatureValue(multiArray: array)
    }

    private func feature(_ pixels: Pixels) throws -> MLFeatureValue {
        MLFeatureValue(pixelBuffer: try pixels.pixelBuffer())
    }

    /// An output of the network; of a classifier the probabilities, which Core ML gives by label.
    private func output(_ output: TensorSpec, of found: MLFeatureProvider) throws -> Output {
        if let array = found.featureValue(for: output.name)?.multiArrayValue {
            let plain = MLShapedArray<Float>(converting: array)
            return Output(shape: plain.shape, values: plain.scalars)
        }
        let others = found.featureNames.compactMap { found.featureValue(for: $0) }
        guard let shares = others.first(where: { $0.type == .dictionary })?.dictionaryValue, let labels else {
            throw ModelError("the network gives no \(output.name)")
        }
        let values = try labels.map { label -> Float in
            guard let share = shares[label] else { throw ModelError("the network gives nothing for \(label)") }
            return share.floatValue
        }
        return Output(shape: [1, values.count], values: values)
    }
}

/// Networks as Core ML compiled them, kept in the app's caches: by content, and by the system that compiled them.
private enum CompiledModels {
    static func url(of bundle: ModelBundle) async throws -> URL {
        let package = try bundle.verifiedModel()
        let system = ProcessInfo.processInfo.operatingSystemVersion
        let name = "\(bundle.sha256)-\(system.majorVersion).\(system.minorVersion).\(system.patchVersion).mlmodelc"
        let files = FileManager.default
        let folder = try files.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
            .appendingPathComponent("org.evmdeploy", isDirectory: true)
        let place = folder.appendingPathComponent(name, isDirectory: true)
        if files.fileExists(atPath: place.path) { return place }
        let compiled = try await MLModel.compileModel(at: package)
        try files.createDirectory(at: folder, withIntermediateDirectories: true)
        do {
            try files.moveItem(at: compiled, to: place)
        } catch {
            try? files.removeItem(at: compiled)
            guard files.fileExists(atPath: place.path) else { throw error }  // else another task was faster
        }
        return place
    }
}
