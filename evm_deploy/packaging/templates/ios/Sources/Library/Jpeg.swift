// Second bytes of markers.
private let tables = 0xc4
private let restarts = 0xd0...0xd7
private let start = 0xd8
private let end = 0xd9
private let scan = 0xda
private let frames: Set<Int> = [0xc0, 0xc1, 0xc2]  // baseline, extended, progressive
// Of the segments for applications, JFIF and Adobe: they say what the channels are.
private let keptSegments: Set<Int> = [0xe0, 0xee]
private let exifMark = Array("Exif\0\0".utf8)

/// A JPEG, taken apart before the system decodes it: what decoders treat in different ways is left out or refused.
struct Jpeg {
    static let signature: [UInt8] = [0xff, 0xd8, 0xff]

    /// The first picture, without profile and EXIF.
    let bytes: [UInt8]
    /// Of its first EXIF.
    let orientation: Int

    /// Throws ModelError: damaged, cut off, too large, or not of 8 bits in grey or three colours.
    init(_ file: [UInt8]) throws {
        var kept: [UInt8] = []
        var exif: [UInt8]?
        var seen = false
        var scanning = false
        var at = 0
        while true {
            let first = try Self.nextMarker(file, at, scanning)
            let marker = Int(file[first + 1])
            if scanning { kept += file[at..<first] }
            if marker == end {
                guard seen else { throw damaged }
                kept += file[first..<first + 2]
                break
            }
            let bare = marker == start || marker == 1
            guard bare || first + 4 <= file.count else { throw damaged }
            let last = bare ? first + 2 : first + 2 + number(file, at: first + 2, count: 2)
            guard last <= file.count, bare || last >= first + 4 else { throw damaged }
            if (0xc0...0xcf).contains(marker), marker != tables {
                try Self.checkFrame(marker, Array(file[first + 4..<last]), seen)
            }
            seen = seen || frames.contains(marker)
            if marker == 0xe1, exif == nil, file[first + 4..<last].starts(with: exifMark) {
                exif = Array(file[first + 4 + exifMark.count..<last])
            }
            let application = (0xe0...0xef).contains(marker) || marker == 0xfe
            if !application || keptSegments.contains(marker) { kept += file[first..<last] }
            if marker == scan, !seen { throw damaged }
            scanning = marker == scan
            at = last
        }
        bytes = kept
        orientation = readOrientation(exif ?? [])
    }

    /// Where the next marker is; in a scan, restarts are part of the data.
    private static func nextMarker(_ file: [UInt8], _ from: Int, _ scanning: Bool) throws -> Int {
        var at = from
        while at + 1 < file.count {
            let next = Int(file[at + 1])
            let skipped = file[at] != 0xff || next == 0 || next == 0xff || (scanning && restarts.contains(next))
            if !skipped { return at }
            at += 1
        }
        throw damaged
    }

    private static func checkFrame(_ marker: Int, _ body: [UInt8], _ seen: Bool) throws {
        guard !seen, body.count >= 6 else { throw damaged }
        let (height, width) = (number(body, at: 1, count: 2), number(body, at: 3, count: 2))
        guard height > 0, width > 0 else { throw damaged }
        try checkSize(width: width, height: height)
        guard frames.contains(marker), body[0] == 8, body[5] == 1 || body[5] == 3 else {
            throw ModelError("this kind of JPEG is not read here: save the image as PNG, or as JPEG in RGB")
        }
    }
}
