import CoreML
import Foundation
import @NAME@

// Prints the profile of every network of the package on this Mac: [ITERATIONS [all|cpu|gpu|neural]]
let units: [String: MLComputeUnits] = [
    "all": .all, "cpu": .cpuOnly, "gpu": .cpuAndGPU, "neural": .cpuAndNeuralEngine,
]
let arguments = CommandLine.arguments.dropFirst()
let iterations = arguments.first.flatMap { Int($0) } ?? 100
guard let chosen = units[arguments.dropFirst().first ?? "all"], (2...100_000).contains(iterations) else {
    FileHandle.standardError.write(Data("usage: @NAME@Benchmark [ITERATIONS [all|cpu|gpu|neural]]\n".utf8))
    exit(2)
}
FileHandle.standardOutput.write(try await Benchmark.profile(units: chosen, iterations: iterations) + Data("\n".utf8))
