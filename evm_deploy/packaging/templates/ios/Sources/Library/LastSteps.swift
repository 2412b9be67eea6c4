import Foundation

#if canImport(OnnxRuntimeBindings)
import OnnxRuntimeBindings
#endif

/// The graph that follows the network of a detector, on onnxruntime: Core ML lacks what finds any number of things.
final class LastSteps: @unchecked Sendable {  // a session may be used by several threads
#if canImport(OnnxRuntimeBindings)
    private let environment: ORTEnv  // has to live as long as the session
    private let session: ORTSession

    /// Throws ModelError for a changed file, and what onnxruntime throws.
    init(_ file: URL) throws {
        environment = try ORTEnv(loggingLevel: .error)
        session = try ORTSession(env: environment, modelPath: file.path, sessionOptions: nil)
    }

    /// The outputs `names`, for inputs by name.
    func run(_ inputs: [String: Output], names: [String]) throws -> [Output] {
        let values = try inputs.mapValues { input -> ORTValue in
            let data = NSMutableData(bytes: input.values, length: 4 * input.values.count)
            let shape = input.shape.map { NSNumber(value: $0) }
            return try ORTValue(tensorData: data, elementType: .float, shape: shape)
        }
        let found = try session.run(withInputs: values, outputNames: Set(names), runOptions: nil)
        return try names.map { name in
            guard let value = found[name] else { throw ModelError("the last steps give no \(name)") }
            return try plain(value)
        }
    }

    private func plain(_ value: ORTValue) throws -> Output {
        let info = try value.tensorTypeAndShapeInfo()
        let shape = info.shape.map(\.intValue)
        if shape.contains(0) { return Output(shape: shape, values: []) }
        let data = try value.tensorData() as Data
        switch info.elementType {
        case .float: return Output(shape: shape, values: data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) })
        case .int64: return Output(shape: shape, values: data.withUnsafeBytes { $0.bindMemory(to: Int64.self).map { Float($0) } })
        default: throw ModelError("the last steps give an output of another type")
        }
    }
#else
    init(_ file: URL) throws { throw ModelError("this build has no onnxruntime for \(file.lastPathComponent)") }

    func run(_ inputs: [String: Output], names: [String]) throws -> [Output] { [] }
#endif
}
