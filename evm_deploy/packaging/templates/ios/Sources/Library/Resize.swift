import Foundation

// In the integer arithmetic of the library that the network was evaluated with: the bytes are the same, to the last
// bit.
private let bits: Int32 = 22  // of the fraction of a weight

/// Sides in pixels.
struct Size: Equatable, Sendable {
    let height: Int
    let width: Int
}

/// The pixels of one axis that each resized pixel is made of: `weights[i]` from `first[i]` on.
private struct Taps {
    var first: [Int] = []
    var weights: [[Int32]] = []
}

/// All but the nearest are antialiased.
enum Interpolation: String, Decodable, Sendable {
    case nearest, bilinear, bicubic, lanczos

    /// For `count` pixels from `from` on, of an axis of `size` pixels resized to `resized`.
    fileprivate func taps(_ size: Int, _ resized: Int, _ from: Int, _ count: Int) -> Taps {
        switch self {
        case .nearest: return nearestTaps(size, resized, from, count)
        case .bilinear: return filtered(size, resized, from, count, 1.0, triangle)
        case .bicubic: return filtered(size, resized, from, count, 2.0, cubic)
        case .lanczos: return filtered(size, resized, from, count, 3.0, windowed)
        }
    }
}

/// Where pixels of one line begin, and how many bytes lie between neighbours.
private struct Line {
    let start: Int
    let stride: Int
}

/// Resizes `image` to `size`, and returns the part `crop` of it that begins at `left`, `top`.
func resizedPart(
    _ image: Pixels, _ size: Size, left: Int, top: Int, crop: Size, interpolation: Interpolation
) throws -> Pixels {
    let columns = interpolation.taps(image.width, size.width, left, crop.width)
    let rows = interpolation.taps(image.height, size.height, top, crop.height)
    let firstRow = rows.first.min() ?? 0
    let endRow = zip(rows.first, rows.weights).map { $0 + $1.count }.max() ?? 0
    let stride = 3 * crop.width
    var narrow = [UInt8](repeating: 0, count: stride * (endRow - firstRow))
    for y in firstRow..<endRow {
        let source = Line(start: 3 * y * image.width, stride: 3)
        blend(image.rgb, source, columns, into: &narrow, Line(start: (y - firstRow) * stride, stride: 3))
    }
    var out = [UInt8](repeating: 0, count: stride * crop.height)
    for x in 0..<crop.width {
        let source = Line(start: 3 * x - firstRow * stride, stride: stride)
        blend(narrow, source, rows, into: &out, Line(start: 3 * x, stride: stride))
    }
    return try Pixels(width: crop.width, height: crop.height, rgb: out)
}

private func blend(_ source: [UInt8], _ from: Line, _ taps: Taps, into out: inout [UInt8], _ to: Line) {
    source.withUnsafeBufferPointer { source in
        out.withUnsafeMutableBufferPointer { out in
            for i in taps.first.indices {
                for channel in 0..<3 {
                    var sum: Int32 = 1 << (bits - 1)
                    var at = from.start + taps.first[i] * from.stride + channel
                    for weight in taps.weights[i] {
                        sum &+= Int32(source[at]) &* weight
                        at += from.stride
                    }
                    out[to.start + i * to.stride + channel] = UInt8(min(max(sum >> bits, 0), 255))
                }
            }
        }
    }
}

/// Places are summed, which rounds otherwise than a product.
private func nearestTaps(_ size: Int, _ resized: Int, _ from: Int, _ count: Int) -> Taps {
    let scale = Double(size) / Double(resized)
    var taps = Taps()
    var at = scale * 0.5
    for place in 0..<from + count {
        if place >= from {
            taps.first.append(min(Int(at), size - 1))
            taps.weights.append([1 << bits])
        }
        at += scale
    }
    return taps
}

private func filtered(
    _ size: Int, _ resized: Int, _ from: Int, _ count: Int, _ reach: Double, _ filter: (Double) -> Double
) -> Taps {
    let scale = Double(size) / Double(resized)
    let stretch = max(scale, 1.0)
    let support = reach * stretch
    var taps = Taps()
    for i in 0..<count {
        let centre = (Double(from + i) + 0.5) * scale
        let start = max(Int(centre - support + 0.5), 0)
        let end = min(Int(centre + support + 0.5), size)
        let exact = (0..<end - start).map { filter((Double($0 + start) - centre + 0.5) * (1.0 / stretch)) }
        let sum = exact.reduce(0, +)
        taps.first.append(start)
        taps.weights.append(exact.map { fixed(sum != 0 ? $0 / sum : $0) })
    }
    return taps
}

private func triangle(_ distance: Double) -> Double {
    let x = abs(distance)
    return x < 1 ? 1 - x : 0
}

private func cubic(_ distance: Double) -> Double {
    let x = abs(distance)
    let a = -0.5
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
}

private func windowed(_ distance: Double) -> Double {
    distance >= -3 && distance < 3 ? sinc(distance) * sinc(distance / 3) : 0
}

private func sinc(_ distance: Double) -> Double {
    if distance == 0 { return 1 }
    let x = distance * Double.pi
    return sin(x) / x
}

private func fixed(_ weight: Double) -> Int32 {
    let scaled = weight * Double(Int32(1) << bits)
    return Int32(weight < 0 ? scaled - 0.5 : scaled + 0.5)
}
