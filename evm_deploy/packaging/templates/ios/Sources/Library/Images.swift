import Accelerate
import CoreGraphics
import CoreVideo
import Foundation
import ImageIO
import VideoToolbox

#if canImport(UIKit)
import UIKit
#endif

extension Pixels {
    /// The pixels of an image in its own colours, which are not converted. Transparency is dropped.
    public init(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) throws {
        guard let space = Self.space(of: image),
            let format = vImage_CGImageFormat(
                bitsPerComponent: 8, bitsPerPixel: 32, colorSpace: space,
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.last.rawValue))
        else { throw ModelError("the colours of the image are not known") }
        var buffer = try vImage_Buffer(cgImage: image, format: format)
        defer { buffer.free() }
        let (width, height) = (Int(buffer.width), Int(buffer.height))
        let bytes = UnsafeMutableRawBufferPointer(start: buffer.data, count: buffer.rowBytes * height)
        var rgb = [UInt8](repeating: 0, count: 3 * width * height)
        for y in 0..<height {
            for x in 0..<width {
                let (source, target) = (y * buffer.rowBytes + 4 * x, 3 * (y * width + x))
                rgb[target] = bytes[source]
                rgb[target + 1] = bytes[source + 1]
                rgb[target + 2] = bytes[source + 2]
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

    /// The pixels of an image file, turned as its EXIF tag says.
    public init(contentsOf file: URL) throws {
        guard let source = CGImageSourceCreateWithURL(file as CFURL, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else { throw ModelError("\(file.lastPathComponent) is not an image") }
        let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any]
        let tag = (properties?[kCGImagePropertyOrientation] as? NSNumber)?.uint32Value ?? 1
        try self.init(image, orientation: CGImagePropertyOrientation(rawValue: tag) ?? .up)
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

    private static func space(of image: CGImage) -> CGColorSpace? {
        if let own = image.colorSpace, own.model == .rgb, own.supportsOutput { return own }
        return CGColorSpace(name: CGColorSpace.sRGB)
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
