import CoreML
import Foundation

/// The networks of this package.
public enum Model: String, CaseIterable, Sendable {
@CASES@

    private static let tolerances: [Model: Double] = [
@TOLERANCES@
    ]

    /// How far from the golden outputs the results may be, relatively.
    public var tolerance: Double { Self.tolerances[self] ?? 0 }

    /// Its files among the package's resources. Throws ModelError.
    public func bundle() throws -> ModelBundle {
        guard let resources = Bundle.module.resourceURL else { throw ModelError("the package has no resources") }
        return try ModelBundle(folder: resources.appendingPathComponent("Models/\(rawValue)", isDirectory: true))
    }

    /// Loads it; the first time on a device Core ML compiles it, which takes a while. Keep what it returns.
    public func open(units: MLComputeUnits = .all) async throws -> ModelRunner {
        try await ModelRunner(bundle(), units: units)
    }
}
