import Accelerate
import CoreGraphics
import CoreVideo
import Foundation
import ImageIO
import VideoToolbox

#if canImport(UIKit)
import UIKit
#endif

private let mostBytes = 1 << 29

extension Pixels {
    /// The pixels of an image in its own colours, which are not converted. Transparency is dropped.
    ///
    /// Throws ModelError where the pixels of the file cannot be known: of other than 8 bits a channel, of other than
    /// grey or RGB colours, or translucent and multiplied by the transparency, which loses colours.
    public init(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) throws {
        let grey = image.colorSpace?.model == .monochrome
        let opaque: [CGImageAlphaInfo] = [.none, .noneSkipFirst, .noneSkipLast]
        let multiplied = [CGImageAlphaInfo.premultipliedFirst, .premultipliedLast].contains(image.alphaInfo)
        let known = image.colorSpace?.model == .rgb || (grey && opaque.contains(image.alphaInfo))
        guard let space = image.colorSpace, known, space.supportsOutput, image.bitsPerComponent == 8 else {
            throw ModelError("the image has not 8 bits a channel in grey or RGB: pass its file, as PNG or JPEG")
        }
        let alpha: CGImageAlphaInfo = grey ? .none : .last
        let channels = grey ? 1 : 4
        guard
            let format = vImage_CGImageFormat(
                bitsPerComponent: 8, bitsPerPixel: 8 * channels, colorSpace: space,
                bitmapInfo: CGBitmapInfo(rawValue: alpha.rawValue))
        else { throw ModelError("the colours of the image are not known") }
        var buffer = try vImage_Buffer(cgImage: image, format: format)
        defer { buffer.free() }
        let (width, height) = (Int(buffer.width), Int(buffer.height))
        let bytes = UnsafeMutableRawBufferPointer(start: buffer.data, count: buffer.rowBytes * height)
        var rgb = [UInt8](repeating: 0, count: 3 * width * height)
        for y in 0..<height {
            for x in 0..<width {
                let (source, target) = (y * buffer.rowBytes + channels * x, 3 * (y * width + x))
                if !grey, multiplied, bytes[source + 3] != 255 {
                    throw ModelError("a translucent image has lost colours: pass its file")
                }
                for channel in 0..<3 { rgb[target + channel] = bytes[source + (grey ? 0 : channel)] }
            }
        }
        self = try Pixels(width: width, height: height, rgb: rgb).upright(Int(orientation.rawValue))
    }

    /// The pixels of a camera's frame.
    public init(_ frame: CVPixelBuffer, orientation: CGImagePropertyOrientation = .up) throws {
        var image: CGImage?
        VTCreateCGImageFromCVPixelBuffer(frame, options: nil, imageOut: &image)
        guard let image else { throw ModelError("the frame has a format that cannot be read") }
        try self.init(image, orientation: orientation)
    }

    /// The pixels of an image file, PNG or JPEG, turned as its EXIF says: those that the network was evaluated with.
    ///
    /// PNG is read here. JPEG is decoded by the system, without its colour profile; its decoder may round otherwise.
    /// Throws ModelError for any other file, a damaged one, and kinds of JPEG that decoders treat in different ways.
    public init(contentsOf file: URL) throws {
        let facts = try file.resourceValues(forKeys: [.isRegularFileKey, .fileSizeKey])
        guard facts.isRegularFile == true, let size = facts.fileSize, size <= mostBytes else {
            throw ModelError("\(file.lastPathComponent) is not a file of at most \(mostBytes) bytes")
        }
        try self.init(encoded: Data(contentsOf: file))
    }

    /// The same of the bytes of such a file.
    public init(encoded data: Data) throws {
        let bytes = [UInt8](data)
        if bytes.starts(with: pngSignature) {
            self = try readPng(bytes)
        } else if bytes.starts(with: Jpeg.signature) {
            let jpeg = try Jpeg(bytes)
            guard let source = CGImageSourceCreateWithData(Data(jpeg.bytes) as CFData, nil),
                let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
            else { throw damaged }
            self = try Pixels(image).upright(jpeg.orientation)
        } else {
            throw ModelError("the file is not an image that is read here: PNG, JPEG")
        }
    }

    /// The pixels as Core ML takes an image.
    func pixelBuffer() throws -> CVPixelBuffer {
        let attributes = [kCVPixelBufferIOSurfacePropertiesKey: [String: Any]()] as CFDictionary
        var created: CVPixelBuffer?
        CVPixelBufferCreate(kCFAllocatorDefault, width, height, kCVPixelFormatType_32BGRA, attributes, &created)
        guard let buffer = created, CVPixelBufferLockBaseAddress(buffer, []) == kCVReturnSuccess else {
            throw ModelError("there is no memory for an image")
        }
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else {
            throw ModelError("there is no memory for an image")
        }
        let stride = CVPixelBufferGetBytesPerRow(buffer)
        let bytes = base.assumingMemoryBound(to: UInt8.self)
        for y in 0..<height {
            for x in 0..<width {
                let (source, target) = (3 * (y * width + x), y * stride + 4 * x)
                bytes[target] = rgb[source + 2]
                bytes[target + 1] = rgb[source + 1]
                bytes[target + 2] = rgb[source]
                bytes[target + 3] = 255
            }
        }
        return buffer
    }
}

#if canImport(UIKit)
extension ModelRunner {
    /// The `top` best classes of an image, turned as it says itself, best first.
    public func classify(_ image: UIImage, top: Int = 5) async throws -> [Prediction] {
        guard let pixels = image.cgImage else { throw ModelError("the image has no pixels") }
        return try await classify(pixels, top: top, orientation: CGImagePropertyOrientation(image.imageOrientation))
    }
}

extension CGImagePropertyOrientation {
    init(_ orientation: UIImage.Orientation) {
        switch orientation {
        case .up: self = .up
        case .upMirrored: self = .upMirrored
        case .down: self = .down
        case .downMirrored: self = .downMirrored
        case .left: self = .left
        case .leftMirrored: self = .leftMirrored
        case .right: self = .right
        case .rightMirrored: self = .rightMirrored
        @unknown default: self = .up
        }
    }
}
#endif
