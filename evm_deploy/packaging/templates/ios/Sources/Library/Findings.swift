/// The corners of a box in pixels of the image: a pixel of its own reaches from a whole number to the next.
public struct Box: Hashable, Sendable {
    public let left: Double
    public let top: Double
    public let right: Double
    public let bottom: Double
}

/// One thing in an image: how likely it is, 0 to 1, and its place among the classes; of an instance, its mask.
public struct Detection: Sendable {
    public let label: String
    public let index: Int
    public let score: Double
    public let box: Box
    public let mask: Mask?
}

/// A class of pixels, and its share of them, 0 to 1.
public struct ClassShare: Hashable, Sendable {
    public let label: String
    public let index: Int
    public let share: Double
}

/// The class of each pixel.
public struct ClassMap: Sendable {
    public let width: Int
    public let height: Int
    private let classes: [UInt16]

    init(width: Int, height: Int, classes: [UInt16]) {
        self.width = width
        self.height = height
        self.classes = classes
    }

    /// The place of a pixel's class among the classes.
    public subscript(x: Int, y: Int) -> Int { Int(classes[y * width + x]) }
}

/// What was found in an image of `width` and `height`: things, the best first, of a detector or instance segmenter;
/// classes, the largest first, and the map of them, of a semantic segmenter.
public struct Findings: Sendable {
    public let width: Int
    public let height: Int
    public internal(set) var things: [Detection] = []
    public internal(set) var classes: [ClassShare] = []
    public internal(set) var map: ClassMap?
}

private let notBoxes = ModelError("the network gives boxes that are none")
private let notClasses = ModelError("the network gives classes that are none")

/// Boxes (n, 4) as corners, scores (n), classes (n) and, of instances, masks (n, h, w), in the pixels of the image.
func locateThings(_ found: [Output], _ placement: Placement, _ labels: [String]?) throws -> Findings {
    let (size, content) = (placement.original, placement.content)
    let across = Double(size.width) / Double(content.width)
    let down = Double(size.height) / Double(content.height)
    let things = try (0..<countThings(found)).map { at -> Detection in
        let corners = (0..<4).map { Double(found[0].values[4 * at + $0]) * ($0 % 2 == 0 ? across : down) }
        let score = Double(found[1].values[at])
        guard corners.allSatisfy(\.isFinite), (0...1).contains(score) else { throw notBoxes }
        let index = try classOf(found[2].values[at])
        let box = Box(left: corners[0], top: corners[1], right: corners[2], bottom: corners[3])
        let mask = found.count > 3 ? Mask(cells: found[3], place: at, box: box, image: size) : nil
        return Detection(label: name(labels, index), index: index, score: score, box: box, mask: mask)
    }
    return Findings(width: size.width, height: size.height, things: things)
}

/// A map of the classes of pixels (1, h, w), cut to the image in it and resized to it: the pixel under each middle.
func locateClasses(_ found: [Output], _ placement: Placement, _ labels: [String]?) throws -> Findings {
    let (size, content) = (placement.original, placement.content)
    let shape = found[0].shape
    guard shape.count == 3, shape[0] == 1, shape[1] >= content.height, shape[2] >= content.width else {
        throw notClasses
    }
    let across = (0..<size.width).map { nearest($0, size.width, content.width) }
    var counts: [Int: Int] = [:]
    var classes: [UInt16] = []
    classes.reserveCapacity(size.width * size.height)
    for y in 0..<size.height {
        let from = nearest(y, size.height, content.height) * shape[2]
        for column in across {
            let index = try classOf(found[0].values[from + column])
            classes.append(UInt16(index))
            counts[index, default: 0] += 1
        }
    }
    let shares = counts.keys.sorted { counts[$0, default: 0] != counts[$1, default: 0]
        ? counts[$0, default: 0] > counts[$1, default: 0] : $0 < $1
    }.map {
        ClassShare(label: name(labels, $0), index: $0, share: Double(counts[$0, default: 0]) / Double(classes.count))
    }
    let map = ClassMap(width: size.width, height: size.height, classes: classes)
    return Findings(width: size.width, height: size.height, classes: shares, map: map)
}

/// How many there are. Throws ModelError where the outputs do not belong together.
func countThings(_ found: [Output]) throws -> Int {
    guard (3...4).contains(found.count) else { throw notBoxes }
    let count = found[1].values.count
    let shapes = [[count, 4], [count], [count]]
    let masks = found.count < 4 || (found[3].shape.count == 3 && found[3].shape[0] == count)
    guard zip(found, shapes).allSatisfy({ $0.shape == $1 }), masks else { throw notBoxes }
    return count
}

private func nearest(_ at: Int, _ length: Int, _ content: Int) -> Int {
    min(Int((Double(at) + 0.5) * Double(content) / Double(length)), content - 1)
}

private func classOf(_ value: Float) throws -> Int {
    guard value >= 0, value < 65536 else { throw notClasses }
    return Int(value)
}

private func name(_ labels: [String]?, _ index: Int) -> String {
    guard let labels, index < labels.count else { return "class \(index)" }
    return labels[index]
}
