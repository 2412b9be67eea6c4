private let one: Float = 2048  // a weight has 11 bits

/// The size of an image that is made as large as fits into `box`, keeping its ratio.
func fitted(_ image: Size, _ box: Size) -> Size {
    let factor = min(Double(box.height) / Double(image.height), Double(box.width) / Double(image.width))
    func side(_ length: Int) -> Int { max(1, Int((Double(length) * factor + 0.5).rounded(.down))) }
    return Size(height: side(image.height), width: side(image.width))
}

/// `image` resized to `size`: every bit as OpenCV's INTER_LINEAR has it, which has no antialiasing.
func resizedBilinear(_ image: Pixels, _ size: Size) throws -> Pixels {
    if size == image.size { return image }
    let across = neighbours(image.width, size.width)
    let down = neighbours(image.height, size.height)
    var out: [UInt8] = []
    out.reserveCapacity(3 * size.height * size.width)
    for row in down {
        let (upper, lower) = (3 * image.width * row.first, 3 * image.width * row.second)
        for column in across {
            for channel in 0..<3 {
                let above = (column.between(image.rgb, upper + channel) * row.near) >> 16
                let below = (column.between(image.rgb, lower + channel) * row.far) >> 16
                out.append(UInt8(truncatingIfNeeded: (above + below + 2) >> 2))
            }
        }
    }
    return try Pixels(width: size.width, height: size.height, rgb: out)
}

/// The two old places that a place on a resized side lies between, and their weights.
private struct Neighbours {
    let first: Int
    let second: Int
    let near: Int32
    let far: Int32

    /// The two pixels of a row of `rgb` that begins at `start`, weighted, with 4 bits less.
    func between(_ rgb: [UInt8], _ start: Int) -> Int32 {
        (Int32(rgb[start + 3 * first]) * near + Int32(rgb[start + 3 * second]) * far) >> 4
    }
}

private func neighbours(_ length: Int, _ count: Int) -> [Neighbours] {
    let scale = 1 / (Double(count) / Double(length))  // rounded twice, as OpenCV does
    func weight(_ share: Float) -> Int32 { Int32((share * one).rounded(.toNearestOrEven)) }
    return (0..<count).map { place in
        let at = Float((Double(place) + 0.5) * scale - 0.5)
        let before = at.rounded(.down)
        let share = at - before
        let first = min(max(Int(before), 0), length - 1)
        let second = min(max(Int(before) + 1, 0), length - 1)
        return Neighbours(first: first, second: second, near: weight(1 - share), far: weight(share))
    }
}
