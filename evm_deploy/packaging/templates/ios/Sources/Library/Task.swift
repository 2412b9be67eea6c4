/// What a network gave: values, the last index running fastest; classes are numbers too.
public struct Output: Sendable {
    public let shape: [Int]
    public let values: [Float]
}

/// How far outputs are from those expected, nil where they cannot be compared, and the most that it may be.
public struct Verdict: Sendable {
    public let error: Double?
    public let most: Double

    public var passed: Bool { error.map { $0 <= most } ?? false }
}

/// What depends on the meaning of the outputs.
enum ModelTask: String, Decodable, Sendable {
    case classification, backbone, detection
    case instanceSegmentation = "instance_segmentation"
    case semanticSegmentation = "semantic_segmentation"

    var title: String {
        switch self {
        case .classification: return "a classifier"
        case .backbone: return "a backbone: it gives feature maps, not classes"
        case .detection: return "a detector"
        case .instanceSegmentation: return "an instance segmenter"
        case .semanticSegmentation: return "a semantic segmenter"
        }
    }

    /// What its outputs are, in order; nil: any.
    var meanings: [String]? {
        switch self {
        case .classification, .backbone: return nil
        case .detection: return ["boxes", "scores", "labels"]
        case .instanceSegmentation: return ["boxes", "scores", "labels", "masks"]
        case .semanticSegmentation: return ["classes of pixels"]
        }
    }

    /// What was found in an image, by the outputs, where the image lies in the input, and the names of the classes.
    var locate: (([Output], Placement, [String]?) throws -> Findings)? {
        switch self {
        case .classification, .backbone: return nil
        case .detection, .instanceSegmentation: return locateThings
        case .semanticSegmentation: return locateClasses
        }
    }

    /// How far outputs are from the expected ones.
    var judge: ([Output], [Output], Double) throws -> Verdict {
        switch self {
        case .classification, .backbone: return judgeNumbers
        case .detection, .instanceSegmentation: return judgeThings
        case .semanticSegmentation: return judgeClasses
        }
    }
}

private let sameBox = @SAME_BOX@  // intersection over union from which on two boxes are the same
private let coarse = @COARSE@  // the tolerance from which on a network has 8 bits, and this makes them one thing:
private let sameThing = @SAME_THING@
private let mostMissed = @MOST_MISSED@  // of the scores, for each 1e-4 of the tolerance, and at most:
private let mostMissedAtAll = @MOST_MISSED_AT_ALL@
private let mostDiffering = @MOST_DIFFERING@  // of the pixels, for each 1e-4 of the tolerance

private func judgeNumbers(_ found: [Output], _ expected: [Output], _ tolerance: Double) -> Verdict {
    Verdict(error: relativeError(found.map(\.values), expected.map(\.values)), most: tolerance)
}

/// By the share of the scores that detections have which one of the two alone found.
private func judgeThings(_ found: [Output], _ expected: [Output], _ tolerance: Double) throws -> Verdict {
    let isCoarse = tolerance >= coarse
    let most = isCoarse ? tolerance : min(mostMissed * tolerance / 1e-4, mostMissedAtAll)
    var free = Set(0..<(try countThings(found)))
    var matched = 0.0
    for at in 0..<(try countThings(expected)) {  // the best first choose
        var best: Int?
        var largest = isCoarse ? sameThing : sameBox
        for other in free.sorted() where found[2].values[other] == expected[2].values[at] {
            let common = overlap(found[0].values, 4 * other, expected[0].values, 4 * at)
            if common > largest {
                best = other
                largest = common
            }
        }
        guard let best else { continue }
        free.remove(best)
        matched += Double(expected[1].values[at]) + Double(found[1].values[best])
    }
    let total = (found[1].values + expected[1].values).reduce(0) { $0 + Double($1) }
    let error = total == 0 ? 0 : 1 - matched / total
    return Verdict(error: error.isFinite ? error : nil, most: most)
}

/// By the share of the pixels that have another class.
private func judgeClasses(_ found: [Output], _ expected: [Output], _ tolerance: Double) -> Verdict {
    let (one, other) = (found[0].values, expected[0].values)
    let differing = zip(one, other).filter { $0 != $1 }.count
    let error = one.count == other.count ? Double(differing) / Double(one.count) : nil
    return Verdict(error: error, most: mostDiffering * tolerance / 1e-4)
}

/// Intersection over union of the boxes that begin at `at` and `there`.
private func overlap(_ one: [Float], _ at: Int, _ other: [Float], _ there: Int) -> Double {
    func area(_ box: [Float], _ from: Int) -> Double {
        (Double(box[from + 2]) - Double(box[from])) * (Double(box[from + 3]) - Double(box[from + 1]))
    }
    let sides = (0..<2).map { side -> Double in
        let end = Double(min(one[at + 2 + side], other[there + 2 + side]))
        return max(end - Double(max(one[at + side], other[there + side])), 0)
    }
    let common = sides[0] * sides[1]
    let whole = area(one, at) + area(other, there) - common
    return whole > 0 ? common / whole : 0
}
