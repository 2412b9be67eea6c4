import Foundation

/// What an image is resized to, for a canvas.
enum Resize: String, Decodable, Sendable {
    case cover, squash, letterbox
    case fit  // the whole image, as detectors and segmenters take it

    func size(_ image: Size, _ canvas: Size) -> Size {
        let (height, width) = (image.height, image.width)
        switch self {
        case .cover:
            return canvas.width * height >= canvas.height * width
                ? Size(height: canvas.width * height / width, width: canvas.width)
                : Size(height: canvas.height, width: canvas.height * width / height)
        case .squash:
            return canvas
        case .fit:
            return fitted(image, canvas)
        case .letterbox:
            return canvas.width * height <= canvas.height * width
                ? Size(height: max(1, rounded(canvas.width * height, width)), width: canvas.width)
                : Size(height: canvas.height, width: max(1, rounded(canvas.height * width, height)))
        }
    }
}

/// The order in which the network takes the channels.
enum Channels: String, Decodable, Sendable {
    case rgb = "RGB"
    case bgr = "BGR"

    var order: [Int] { self == .rgb ? [0, 1, 2] : [2, 1, 0] }
}

/// Where an image of the size `original` lies in the input of a detector or segmenter: at the upper left, `content`.
struct Placement: Equatable, Sendable {
    let original: Size
    let content: Size
}

/// From an image to the input of the network, as the manifest tells it.
struct Preprocessing: Decodable, Sendable {
    private let imageSize: [Int]
    private let cropPct: Double
    private let resize: Resize
    private let fill: Int
    private let interpolation: Interpolation?  // nil where the image is fitted, as OpenCV does it
    private let channels: Channels
    private let mean: [Double]
    private let std: [Double]
    private let scale: [Int]?
    let baked: Bool

    private enum CodingKeys: String, CodingKey {
        case imageSize = "image_size"
        case cropPct = "crop_pct"
        case resize, fill, interpolation, channels, mean, std, baked, scale
    }

    /// Any name of a field.
    private struct Name: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// Throws an error for fields and values that are not known here.
    init(from decoder: Decoder) throws {
        let names = try decoder.container(keyedBy: Name.self).allKeys
        for name in names where CodingKeys(stringValue: name.stringValue) == nil {
            throw ModelError("the manifest asks for \(name.stringValue), which is not known here")
        }
        let said = try decoder.container(keyedBy: CodingKeys.self)
        imageSize = try said.decode([Int].self, forKey: .imageSize)
        cropPct = try said.decode(Double.self, forKey: .cropPct)
        resize = try said.contains(.resize) ? said.decode(Resize.self, forKey: .resize) : .cover
        fill = try said.contains(.fill) ? said.decode(Int.self, forKey: .fill) : 0
        interpolation = resize == .fit ? nil : try said.decode(Interpolation.self, forKey: .interpolation)
        channels = try said.decode(Channels.self, forKey: .channels)
        mean = try said.decode([Double].self, forKey: .mean)
        std = try said.decode([Double].self, forKey: .std)
        baked = try said.decode(Bool.self, forKey: .baked)
        scale = try said.decodeIfPresent([Int].self, forKey: .scale)
        let word = try said.decode(String.self, forKey: .interpolation)
        let fitting = resize == .fit ? word == "opencv_bilinear" && cropPct == 1 : scale == nil
        let box = scale.map { $0.count == 2 && $0.allSatisfy { (1...4096).contains($0) } } ?? true
        let sides = imageSize.count == 2 && imageSize.allSatisfy { (1...4096).contains($0) }
        let padded = (0...255).contains(fill) && (fill == 0 || resize == .letterbox)
        let colours = mean.count == 3 && std.count == 3 && std.allSatisfy { $0 > 0 }
        guard sides, padded, colours, fitting, box, (0.1...1).contains(cropPct) else {
            throw ModelError("the manifest's preprocessing is not valid")
        }
    }

    /// The size of the image that the network takes.
    var size: Size { Size(height: imageSize[0], width: imageSize[1]) }

    /// Whether the whole image is fitted into the input.
    var fits: Bool { resize == .fit }

    /// Where an image of a network that `fits` lies in its input.
    func place(_ pixels: Pixels) -> Placement {
        let original = pixels.size
        if baked { return Placement(original: original, content: original) }
        guard let scale else { return Placement(original: original, content: fitted(original, size)) }
        let turned = original.height > original.width
        let box = Size(height: scale[turned ? 0 : 1], width: scale[turned ? 1 : 0])
        return Placement(original: original, content: fitted(original, box))
    }

    /// The part of `pixels` that the network sees, in RGB, at its size; or all of them, as large as they fit. Throws
    /// ModelError for an image too narrow.
    func crop(_ pixels: Pixels) throws -> Pixels {
        guard let interpolation else { return try resizedBilinear(pixels, place(pixels).content) }
        let canvas = Size(
            height: Int((Double(size.height) / cropPct).rounded(.down)),
            width: Int((Double(size.width) / cropPct).rounded(.down))
        )
        let resized = resize.size(Size(height: pixels.height, width: pixels.width), canvas)
        let whole = Size(height: max(resized.height, canvas.height), width: max(resized.width, canvas.width))
        try checkSize(width: whole.width, height: max(whole.height, pixels.height))
        let rows = Visible(whole.height, resized.height, size.height)
        let columns = Visible(whole.width, resized.width, size.width)
        var rgb = [UInt8](repeating: UInt8(fill), count: 3 * size.height * size.width)
        if rows.count < 1 || columns.count < 1 { return try Pixels(width: size.width, height: size.height, rgb: rgb) }
        let part = Size(height: rows.count, width: columns.count)
        let seen = try resizedPart(
            pixels, resized, left: columns.from, top: rows.from, crop: part, interpolation: interpolation)
        for row in 0..<rows.count {
            let start = 3 * row * columns.count
            let target = 3 * ((row + rows.to) * size.width + columns.to)
            rgb.replaceSubrange(
                target..<target + 3 * columns.count, with: seen.rgb[start..<start + 3 * columns.count])
        }
        return try Pixels(width: size.width, height: size.height, rgb: rgb)
    }

    /// The bytes of RGB pixels in the order of the network's channels, and the other way about.
    func ordered(_ rgb: [UInt8]) -> [UInt8] {
        let order = channels.order
        return rgb.indices.map { rgb[$0 - $0 % 3 + order[$0 % 3]] }
    }

    /// The cropped image as numbers, channel by channel; of a network that has not this in itself. There are zeros
    /// below and to the right of an image that does not fill the input.
    func normalised(_ cropped: Pixels) -> [Float] {
        let canvas = fits && scale != nil ? cropped.size : size
        let order = channels.order
        var values = [Float](repeating: 0, count: 3 * canvas.height * canvas.width)
        for channel in 0..<3 {
            let (mean, std) = (Float(mean[channel]), Float(std[channel]))
            for y in 0..<cropped.height {
                let from = 3 * y * cropped.width + order[channel]
                let to = (channel * canvas.height + y) * canvas.width
                for x in 0..<cropped.width {
                    values[to + x] = (Float(cropped.rgb[from + 3 * x]) / 255 - mean) / std
                }
            }
        }
        return values
    }
}

/// Of a side `size` in the middle of `whole`, what the crop in the middle has: from where, how much, and to where.
private struct Visible {
    let from: Int
    let count: Int
    let to: Int

    init(_ whole: Int, _ size: Int, _ crop: Int) {
        let start = half(whole - crop) - half(whole - size)
        from = max(start, 0)
        count = min(start + crop, size) - from
        to = from - start
    }
}

/// The nearest whole number to a / b, of two the greater.
private func rounded(_ a: Int, _ b: Int) -> Int { (2 * a + b) / (2 * b) }

/// Half of a margin; halves of a pixel go to the even neighbour.
private func half(_ margin: Int) -> Int {
    margin / 2 + (margin % 2 == 1 && margin / 2 % 2 == 1 ? 1 : 0)
}
