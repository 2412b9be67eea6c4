import Compression

// PNG files, read here: the system multiplies colours by their alpha, and converts 16 bits, greys and profiles.
let pngSignature: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]
private let samples = [0: 1, 2: 3, 3: 1, 4: 2, 6: 4]  // of a pixel, by type of colour
private let depths = [0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16]]
private let passes = [
    Pass(x: 0, y: 0, dx: 8, dy: 8), Pass(x: 4, y: 0, dx: 8, dy: 8), Pass(x: 0, y: 4, dx: 4, dy: 8),
    Pass(x: 2, y: 0, dx: 4, dy: 4), Pass(x: 0, y: 2, dx: 2, dy: 4), Pass(x: 1, y: 0, dx: 2, dy: 2),
    Pass(x: 0, y: 1, dx: 1, dy: 2),
]
private let critical: Set<String> = ["IHDR", "PLTE", "IDAT", "IEND"]  // the chunks that a reader must know

/// Which pixels of an image a pass has: the first at `x`, `y`, and how far apart they are.
private struct Pass {
    let x: Int
    let y: Int
    let dx: Int
    let dy: Int

    func columns(_ header: Header) -> Int { (header.width - x + dx - 1) / dx }
    func rows(_ header: Header) -> Int { (header.height - y + dy - 1) / dy }
}

private struct Header {
    let width: Int
    let height: Int
    let depth: Int
    let type: Int
    let interlaced: Bool

    var bits: Int { (samples[type] ?? 0) * depth }  // of a pixel
    var colour: Bool { type == 2 || type == 6 }

    init(_ data: [UInt8], palette: Bool) throws {
        guard data.count == 13 else { throw damaged }
        width = number(data, at: 0, count: 4)
        height = number(data, at: 4, count: 4)
        depth = Int(data[8])
        type = Int(data[9])
        interlaced = data[12] == 1
        let known = (depths[type] ?? []).contains(depth) && (type != 3 || palette) && data[12] <= 1
        guard known, data[10] == 0, data[11] == 0, width > 0, height > 0 else { throw damaged }
    }

    func stride(_ columns: Int) -> Int { (columns * bits + 7) / 8 }
}

/// The pixels of the bytes of a PNG, upright: without alpha, of 16 bits the high byte. Throws ModelError.
func readPng(_ bytes: [UInt8]) throws -> Pixels {
    let chunks = try split(bytes)
    let header = try Header(chunks["IHDR"]?[0] ?? [], palette: chunks["PLTE"] != nil)
    try checkSize(width: header.width, height: header.height)
    let all = header.interlaced ? passes : [Pass(x: 0, y: 0, dx: 1, dy: 1)]
    let parts = all.filter { $0.columns(header) > 0 && $0.rows(header) > 0 }
    let length = parts.map { $0.rows(header) * (1 + header.stride($0.columns(header))) }.reduce(0, +)
    var lines = try inflated(chunks["IDAT"] ?? [], count: length)
    var rgb = [UInt8](repeating: 0, count: 3 * header.width * header.height)
    let colours = table(header, chunks["PLTE"]?[0] ?? [])
    var at = 0
    for part in parts { at = try place(header, part, &lines, at, &rgb, colours) }
    let pixels = try Pixels(width: header.width, height: header.height, rgb: rgb)
    return try pixels.upright(readOrientation(chunks["eXIf"]?[0] ?? []))
}

/// The bodies of the chunks by name, each held against its checksum, up to the last one.
private func split(_ bytes: [UInt8]) throws -> [String: [[UInt8]]] {
    var chunks: [String: [[UInt8]]] = [:]
    var at = pngSignature.count
    var name = ""
    while name != "IEND" {
        guard bytes.count - at >= 12 else { throw damaged }
        let length = number(bytes, at: at, count: 4)
        guard length <= bytes.count - at - 12 else { throw damaged }
        let end = at + 8 + length
        guard checksum(bytes[at + 4..<end]) == number(bytes, at: end, count: 4) else { throw damaged }
        name = String(decoding: bytes[at + 4..<at + 8], as: UTF8.self)
        let first = (name == "IHDR") == (at == pngSignature.count)
        if (0x41...0x5a).contains(bytes[at + 4]), !(critical.contains(name) && first) { throw damaged }
        chunks[name, default: []].append(Array(bytes[at + 8..<end]))
        at = end + 4
    }
    return chunks
}

private let sums: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xedb8_8320 : value >> 1 }
}

private func checksum(_ bytes: ArraySlice<UInt8>) -> Int {
    Int(~bytes.reduce(~UInt32(0)) { $0 >> 8 ^ sums[Int(($0 ^ UInt32($1)) & 255)] })
}

/// The first `count` bytes of a stream that has as many.
private func inflated(_ parts: [[UInt8]], count: Int) throws -> [UInt8] {
    let packed = parts.flatMap { $0 }
    // The two bytes of zlib's header, which the library does not read.
    guard packed.count > 2, packed[0] & 15 == 8, packed[1] & 32 == 0 else { throw damaged }
    guard number(packed, at: 0, count: 2) % 31 == 0 else { throw damaged }
    var lines = [UInt8](repeating: 0, count: count)
    let found = packed.withUnsafeBufferPointer { source in
        lines.withUnsafeMutableBufferPointer { target -> Int in
            guard let from = source.baseAddress, let to = target.baseAddress else { return 0 }
            return compression_decode_buffer(to, count, from + 2, source.count - 2, nil, COMPRESSION_ZLIB)
        }
    }
    guard found == count else { throw damaged }
    return lines
}

/// RGB of each value of a pixel of one sample of at most 8 bits; empty for other pixels.
private func table(_ header: Header, _ palette: [UInt8]) -> [UInt8] {
    if header.type != 3 && (header.type != 0 || header.depth == 16) { return [] }
    let level = 255 / ((1 << header.depth) - 1)
    return (0..<3 << header.depth).map { at in
        if header.type == 3 { return at < palette.count ? palette[at] : 0 }
        return UInt8(at / 3 * level)
    }
}

/// Undoes the filters of one pass and puts its pixels where they belong. Returns where the next pass begins.
private func place(
    _ header: Header, _ part: Pass, _ lines: inout [UInt8], _ start: Int, _ rgb: inout [UInt8], _ colours: [UInt8]
) throws -> Int {
    let (columns, rows) = (part.columns(header), part.rows(header))
    let stride = header.stride(columns)
    let step = max(1, header.bits / 8)
    var line = start
    for row in 0..<rows {
        try unfilter(&lines, line, stride, step, row > 0)
        let target = Target(start: 3 * ((part.y + row * part.dy) * header.width + part.x), apart: 3 * part.dx)
        if colours.isEmpty {
            copy(header, lines, line + 1, columns, step, &rgb, target)
        } else {
            lookUp(header.depth, lines, line + 1, columns, colours, &rgb, target)
        }
        line += 1 + stride
    }
    return line
}

/// Where the pixels of a line go, and how many bytes lie between them.
private struct Target {
    let start: Int
    let apart: Int
}

/// Adds what the filter of the line at `start` says, from the pixels to the left and, where `below` another, above.
private func unfilter(_ lines: inout [UInt8], _ start: Int, _ stride: Int, _ step: Int, _ below: Bool) throws {
    let kind = lines[start]
    guard kind <= 4 else { throw damaged }
    if kind == 0 { return }
    for at in 0..<stride {
        let place = start + 1 + at
        let left = at < step ? 0 : Int(lines[place - step])
        let above = below ? Int(lines[place - stride - 1]) : 0
        let corner = below && at >= step ? Int(lines[place - stride - 1 - step]) : 0
        let more: Int
        switch kind {
        case 1: more = left
        case 2: more = above
        case 3: more = (left + above) / 2
        default: more = paeth(left, above, corner)
        }
        lines[place] = UInt8((Int(lines[place]) + more) & 255)
    }
}

private func paeth(_ left: Int, _ above: Int, _ corner: Int) -> Int {
    let (a, b, c) = (abs(above - corner), abs(left - corner), abs(left + above - 2 * corner))
    return a <= b && a <= c ? left : b <= c ? above : corner
}

private func lookUp(
    _ depth: Int, _ lines: [UInt8], _ start: Int, _ columns: Int, _ colours: [UInt8], _ rgb: inout [UInt8],
    _ target: Target
) {
    let last = (1 << depth) - 1
    for column in 0..<columns {
        let bit = column * depth
        let value = Int(lines[start + bit / 8]) >> (8 - depth - bit % 8) & last
        for channel in 0..<3 { rgb[target.start + column * target.apart + channel] = colours[3 * value + channel] }
    }
}

/// Samples of whole bytes, `step` of them a pixel; of 16 bits the high byte comes first.
private func copy(
    _ header: Header, _ lines: [UInt8], _ start: Int, _ columns: Int, _ step: Int, _ rgb: inout [UInt8],
    _ target: Target
) {
    let next = header.colour ? header.depth / 8 : 0
    for column in 0..<columns {
        for channel in 0..<3 {
            let source = lines[start + column * step + channel * next]
            rgb[target.start + column * target.apart + channel] = source
        }
    }
}
