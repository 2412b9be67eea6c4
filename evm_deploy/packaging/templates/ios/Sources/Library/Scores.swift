import Foundation

private let rounding: Float = 1e-3  // how far a probability may be beyond 0 and 1

/// A class of an image: its label, its place among the classes, and its probability, 0 to 1.
public struct Prediction: Hashable, Sendable {
    public let label: String
    public let index: Int
    public let probability: Double
}

/// The `top` best classes, best first; without labels a class is called by its place.
func best(_ scores: [Float], logits: Bool, labels: [String]?, top: Int) throws -> [Prediction] {
    guard scores.count > 1, scores.allSatisfy(\.isFinite) else { throw ModelError("the network gives no scores") }
    guard logits || scores.allSatisfy({ $0 > -rounding && $0 < 1 + rounding }) else {
        throw ModelError("the network gives no probabilities")
    }
    if let labels, labels.count != scores.count {
        throw ModelError("\(labels.count) labels for \(scores.count) classes")
    }
    let shares = logits ? softmax(scores) : scores.map(Double.init)
    let order = shares.indices.sorted { shares[$0] != shares[$1] ? shares[$0] > shares[$1] : $0 < $1 }
    return order.prefix(max(top, 0)).map {
        Prediction(label: labels?[$0] ?? "class \($0)", index: $0, probability: shares[$0])
    }
}

private func softmax(_ logits: [Float]) -> [Double] {
    let greatest = Double(logits.max() ?? 0)
    let powers = logits.map { exp(Double($0) - greatest) }
    let sum = powers.reduce(0, +)
    return powers.map { $0 / sum }
}

/// The largest difference of `found` from `expected` as a share of the largest expected value, at least of 1.
///
/// Nil where a value is not finite, or there are more or fewer of them.
func relativeError(_ found: [[Float]], _ expected: [[Float]]) -> Double? {
    guard found.count == expected.count else { return nil }
    var worst = 0.0
    for (mine, right) in zip(found, expected) {
        guard mine.count == right.count, mine.allSatisfy(\.isFinite), right.allSatisfy(\.isFinite) else { return nil }
        let difference = zip(mine, right).map { abs(Double($0) - Double($1)) }.max() ?? 0
        let largest = right.map { abs(Double($0)) }.max() ?? 0
        worst = max(worst, difference / max(largest, 1))
    }
    return worst
}
