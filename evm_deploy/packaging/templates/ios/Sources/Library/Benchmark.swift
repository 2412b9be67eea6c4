import CoreML
import Foundation

/// Measures networks on this device.
public enum Benchmark {
    private static let few = 100  // samples: with fewer, the 99th percentile is the largest one

    /// A network whose outputs are right, or the reason why it is not measured.
    private struct Entrant {
        var fields: [String: Any]
        var call: (() throws -> Void)?
    }

    /// Runs the golden pair of each network, then measures them in turns: `iterations` times, or for `seconds` each.
    ///
    /// Returns a profile as `evm-deploy report` reads it (JSON). Throws what the JSON writer throws.
    public static func profile(
        _ models: [Model] = Model.allCases, units: MLComputeUnits = .all, iterations: Int = 100, seconds: Double? = nil,
        warmUp: Int = 5
    ) async throws -> Data {
        let before = Device.snapshot()
        var entrants: [Entrant] = []
        for model in models { entrants.append(await entrant(model, units)) }
        var warnings: [String] = []
        do {
            try measure(&entrants, iterations, seconds, warmUp, &warnings)
        } catch {
            for index in entrants.indices where entrants[index].call != nil {
                entrants[index].fields["error"] = "\(error)"
            }
        }
        let after = Device.snapshot()
        if after["throttled"] as? Bool == true { warnings.append("the device was hot: it held its clocks down") }
        var method: [String: Any] = [
            "iterations": NSNull(), "seconds": NSNull(), "warm_up": warmUp, "interleaved": true,
        ]
        if let seconds { method["seconds"] = seconds } else { method["iterations"] = iterations }
        let conditions: [String: Any] = [
            "before": before, "after": after, "versions": ["system": Device.system], "power": Device.power(),
        ]
        let document: [String: Any] = [
            "schema": "evm-deploy/profile",
            "version": 1,
            "device": Device.facts(),
            "conditions": conditions,
            "method": method,
            "results": entrants.map(\.fields),
            "created": ISO8601DateFormatter().string(from: Date()),
            "tool": "evm-deploy @VERSION@, Swift package",
            "warnings": warnings,
        ]
        return try JSONSerialization.data(withJSONObject: document, options: [.sortedKeys, .prettyPrinted])
    }

    private static func measure(
        _ entrants: inout [Entrant], _ iterations: Int, _ seconds: Double?, _ warmUp: Int, _ warnings: inout [String]
    ) throws {
        let running = entrants.indices.filter { entrants[$0].call != nil }
        if running.isEmpty { return }
        var turns = Turns(running.compactMap { entrants[$0].call })
        let settled = try turns.warmUp(warmUp)
        let rows = try turns.measured(iterations: iterations, seconds: seconds)
        for (place, index) in running.enumerated() {
            entrants[index].fields["warm_up_runs"] = settled.runs
            entrants[index].fields["steady"] = settled.steady[place]
            entrants[index].fields["samples_ms"] = rows.map { $0[place] }
            if !settled.steady[place] {
                warnings.append("\(entrants[index].fields["name"] ?? ""): times had not settled when timing began")
            }
        }
        if rows.count < few { warnings.append("\(rows.count) samples are few for the 99th percentile") }
    }

    private static func entrant(_ model: Model, _ units: MLComputeUnits) async -> Entrant {
        var fields: [String: Any] = [
            "name": model.rawValue, "bundle": model.rawValue, "runtime": "core ml", "provider": name(units),
            "target": "coreml", "precision": "", "sha256": "", "size_bytes": 0,
            "notes": ["loading includes checking hashes, and where the network was never opened before, compiling it"],
        ]
        do {
            let bundle = try model.bundle()
            fields["precision"] = bundle.precision
            fields["sha256"] = bundle.sha256
            fields["size_bytes"] = bundle.size
            let input = try bundle.goldenInput()
            let expected = try bundle.goldenOutputs()
            let start = now()
            let runner = try await ModelRunner(bundle, units: units)
            let loaded = now()
            let found = try runner.run(input)
            let first = now()
            let verdict = try bundle.judge(found, expected, model.tolerance)
            var golden: [String: Any] = [
                "relative_error": NSNull(), "tolerance": verdict.most, "passed": verdict.passed,
            ]
            if let error = verdict.error { golden["relative_error"] = error }
            fields["golden"] = golden
            guard verdict.passed else { throw ModelError("its outputs are not those of the golden pair") }
            fields["load_ms"] = (loaded - start) * 1e3
            fields["first_ms"] = (first - loaded) * 1e3
            return Entrant(fields: fields, call: { _ = try runner.run(input) })
        } catch {
            fields["error"] = "\(error)"
            return Entrant(fields: fields, call: nil)
        }
    }

    private static func name(_ units: MLComputeUnits) -> String {
        switch units {
        case .all: return "all"
        case .cpuOnly: return "cpuOnly"
        case .cpuAndGPU: return "cpuAndGPU"
        case .cpuAndNeuralEngine: return "cpuAndNeuralEngine"
        @unknown default: return "unknown"
        }
    }
}
