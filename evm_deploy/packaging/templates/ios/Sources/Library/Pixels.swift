/// An RGB image of 8 bits a channel: `rgb` has three bytes a pixel, row by row.
public struct Pixels: Equatable, Sendable {
    public let width: Int
    public let height: Int
    public let rgb: [UInt8]

    /// Throws ModelError where the bytes are not as many as the image has.
    public init(width: Int, height: Int, rgb: [UInt8]) throws {
        guard width > 0, height > 0, rgb.count == 3 * width * height else {
            throw ModelError("\(rgb.count) bytes are not an RGB image of \(width)x\(height)")
        }
        self.width = width
        self.height = height
        self.rgb = rgb
    }

    var size: Size { Size(height: height, width: width) }

    /// The image turned as the value of its EXIF tag says, 1 (as it is) to 8. Throws ModelError for another value.
    public func upright(_ orientation: Int) throws -> Pixels {
        guard (1...8).contains(orientation) else {
            throw ModelError("an EXIF orientation is 1 to 8, not \(orientation)")
        }
        if orientation == 1 { return self }
        let swapped = orientation >= 5
        let fromRight = [2, 3, 7, 8].contains(orientation)
        let fromBottom = [3, 4, 6, 7].contains(orientation)
        let (turnedWidth, turnedHeight) = swapped ? (height, width) : (width, height)
        var turned = [UInt8](repeating: 0, count: rgb.count)
        for y in 0..<turnedHeight {
            for x in 0..<turnedWidth {
                let (a, b) = swapped ? (y, x) : (x, y)
                let column = fromRight ? width - 1 - a : a
                let row = fromBottom ? height - 1 - b : b
                let (source, target) = (3 * (row * width + column), 3 * (y * turnedWidth + x))
                turned[target] = rgb[source]
                turned[target + 1] = rgb[source + 1]
                turned[target + 2] = rgb[source + 2]
            }
        }
        return try Pixels(width: turnedWidth, height: turnedHeight, rgb: turned)
    }
}
