import Foundation

/// From an image to the input of the network, as the manifest tells it: cover, crop the centre, normalise.
struct Preprocessing: Decodable, Sendable {
    private static let mostPixels = 64_000_000

    private let imageSize: [Int]
    private let cropPct: Double
    private let mean: [Double]
    private let std: [Double]
    let baked: Bool

    private enum CodingKeys: String, CodingKey {
        case imageSize = "image_size"
        case cropPct = "crop_pct"
        case mean, std, baked
    }

    /// The size of the image that the network takes.
    var size: Size { Size(height: imageSize[0], width: imageSize[1]) }

    /// Throws ModelError for figures that no manifest has.
    func check() throws {
        let sides = imageSize.count == 2 && imageSize.allSatisfy { (1...4096).contains($0) }
        guard sides, (0.1...1).contains(cropPct), mean.count == 3, std.count == 3 else {
            throw ModelError("the manifest's preprocessing is not valid")
        }
    }

    /// The part of `pixels` that the network sees, at its size. Throws ModelError for an image that is too narrow.
    func crop(_ pixels: Pixels) throws -> Pixels {
        let cover = Size(
            height: Int((Double(size.height) / cropPct).rounded(.down)),
            width: Int((Double(size.width) / cropPct).rounded(.down))
        )
        let wide = cover.width * pixels.height >= cover.height * pixels.width
        let height = wide ? cover.width * pixels.height / pixels.width : cover.height
        let width = wide ? cover.width : cover.height * pixels.width / pixels.height
        guard height * width <= Self.mostPixels else {
            throw ModelError("an image of \(pixels.width)x\(pixels.height) is too narrow")
        }
        let (top, left) = (half(height - size.height), half(width - size.width))
        return try resizedCrop(pixels, width: width, height: height, left: left, top: top, crop: size)
    }

    /// The cropped image as numbers, channel by channel; of a network that has not this in itself.
    func normalised(_ cropped: Pixels) -> [Float] {
        let plane = cropped.width * cropped.height
        var values = [Float](repeating: 0, count: 3 * plane)
        for channel in 0..<3 {
            let (mean, std) = (Float(mean[channel]), Float(std[channel]))
            for place in 0..<plane {
                let unit = Float(cropped.rgb[3 * place + channel]) / 255
                values[channel * plane + place] = (unit - mean) / std
            }
        }
        return values
    }

    /// Half of a margin; halves of a pixel go to the even neighbour.
    private func half(_ margin: Int) -> Int {
        margin / 2 + (margin % 2 == 1 && margin / 2 % 2 == 1 ? 1 : 0)
    }
}
