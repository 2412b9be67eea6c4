private let least: Float = 0.5  // the probability from which on a pixel is covered

/// The pixels of an image that a thing covers: none outside of `left`, `top`, `width` and `height`.
///
/// It is kept as the probabilities of cells that lie over the box, interpolated linearly at the middle of a pixel.
public struct Mask: Sendable {
    private let cells: Output
    private let place: Int
    private let down: Side
    private let across: Side

    init(cells: Output, place: Int, box: Box, image: Size) {
        self.cells = cells
        self.place = place
        down = Side(box.top, box.bottom, image.height, cells.shape[1])
        across = Side(box.left, box.right, image.width, cells.shape[2])
    }

    public var left: Int { across.first }
    public var top: Int { down.first }
    public var width: Int { across.lower.count }
    public var height: Int { down.lower.count }

    /// Whether it covers the pixel of the image at `x`, `y`.
    public func covers(_ x: Int, _ y: Int) -> Bool {
        let (column, row) = (x - left, y - top)
        guard (0..<width).contains(column), (0..<height).contains(row) else { return false }
        let one = self.column(across.lower[column], row) * across.lowerShare[column]
        let other = self.column(across.lower[column] + 1, row) * across.upperShare[column]
        return one + other >= least
    }

    /// A column of cells at a row of pixels.
    private func column(_ column: Int, _ row: Int) -> Float {
        let at = down.lower[row]
        return cell(at, column) * down.lowerShare[row] + cell(at + 1, column) * down.upperShare[row]
    }

    private func cell(_ row: Int, _ column: Int) -> Float {
        let (rows, columns) = (cells.shape[1], cells.shape[2])
        guard (0..<rows).contains(row), (0..<columns).contains(column) else { return 0 }
        return cells.values[(place * rows + row) * columns + column]
    }
}

/// The pixels of a side that a box reaches, and one more on either side; of each the two cells that it lies between.
private struct Side: Sendable {
    let first: Int
    let lower: [Int]
    let lowerShare: [Float]
    let upperShare: [Float]

    init(_ from: Double, _ to: Double, _ length: Int, _ cells: Int) {
        let (start, end) = (Float(from), Float(to))
        let begin = Int(min(max(Double(start).rounded(.down) - 1, 0), Double(length)))
        let last = Int(min(max(Double(end).rounded(.up) + 1, 0), Double(length)))
        let places = (begin..<max(last, begin)).map { pixel -> Float in
            let at = end == start ? 0.5 : (Float(pixel) + 0.5 - start) / (end - start)
            return at * Float(cells) - 0.5
        }
        first = begin
        lower = places.map { Int($0.rounded(.down)) }
        lowerShare = zip(places, lower).map { 1 - abs($0 - Float($1)) }
        upperShare = zip(places, lower).map { 1 - abs($0 - Float($1 + 1)) }
    }
}
