import CoreGraphics
import CoreText
import Foundation

private let turn = 0.61803398875  // of the circle of hues: neighbouring classes are far apart, no two are alike

extension Findings {
    /// A copy of `image`, in which this was found, under it: masks, the classes of pixels, and boxes with their names,
    /// the best over the others. The image has to be upright. Throws ModelError for an image of another size.
    public func draw(over image: CGImage) throws -> CGImage {
        guard image.width == width, image.height == height else {
            throw ModelError("this was found in an image of \(width)x\(height)")
        }
        guard let space = CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 0, space: space,
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue),
            let data = context.data
        else { throw ModelError("there is no memory for a copy") }
        context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
        let bytes = UnsafeMutableRawBufferPointer(start: data, count: context.bytesPerRow * height)
        for y in 0..<height { colour(bytes, context.bytesPerRow * y, y) }
        for thing in things.reversed() { draw(thing, context) }
        guard let drawn = context.makeImage() else { throw ModelError("there is no memory for a copy") }
        return drawn
    }

    /// A row of pixels of four bytes that begins at `start`: half of each becomes the colour of what covers it.
    private func colour(_ bytes: UnsafeMutableRawBufferPointer, _ start: Int, _ y: Int) {
        func mix(_ x: Int, _ colour: [UInt8]) {
            for channel in 0..<3 {
                let at = start + 4 * x + channel
                bytes[at] = UInt8((Int(bytes[at]) + Int(colour[channel]) + 1) / 2)
            }
        }
        if let map { for x in 0..<width { mix(x, colourOf(map[x, y])) } }
        for thing in things.reversed() {
            guard let mask = thing.mask else { continue }
            let colour = colourOf(thing.index)
            for x in mask.left..<mask.left + mask.width where mask.covers(x, y) { mix(x, colour) }
        }
    }

    /// Core Graphics counts from the bottom.
    private func draw(_ thing: Detection, _ context: CGContext) {
        let longest = Double(max(width, height))
        let (line, size) = (max(1, longest / 400), max(10, longest / 50))
        let channels = colourOf(thing.index).map { CGFloat($0) / 255 }
        let colour = CGColor(red: channels[0], green: channels[1], blue: channels[2], alpha: 1)
        let box = thing.box
        context.setStrokeColor(colour)
        context.setLineWidth(line)
        context.stroke(
            CGRect(x: box.left, y: Double(height) - box.bottom, width: box.right - box.left, height: box.bottom - box.top))
        let attributes: [NSAttributedString.Key: Any] = [
            NSAttributedString.Key(kCTFontAttributeName as String): CTFontCreateWithName("Helvetica" as CFString, size, nil),
            NSAttributedString.Key(kCTForegroundColorAttributeName as String): colour,
        ]
        let text = CTLineCreateWithAttributedString(NSAttributedString(string: thing.label, attributes: attributes))
        context.textPosition = CGPoint(x: box.left + line, y: Double(height) - max(box.top - line, size))
        CTLineDraw(text, context)
    }
}

/// Red, green and blue of a class, the same in every image.
func colourOf(_ index: Int) -> [UInt8] {
    let saturation = index / 12 % 2 == 0 ? 0.9 : 0.55
    let hue = (Double(index) * turn).truncatingRemainder(dividingBy: 1) * 6
    return [5.0, 3.0, 1.0].map { offset -> UInt8 in
        let part = (offset + hue).truncatingRemainder(dividingBy: 6)
        return UInt8((255 * 0.95 * (1 - saturation * max(0, min(part, 4 - part, 1)))).rounded())
    }
}
