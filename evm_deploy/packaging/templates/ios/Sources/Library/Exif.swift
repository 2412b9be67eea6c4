private let head = 8
private let entry = 12
private let tag = 0x0112
private let short = 3

/// EXIF's orientation, 1 to 8, in such a block of bytes; 1 where it has none, or is not EXIF.
func readOrientation(_ exif: [UInt8]) -> Int {
    let little = exif.starts(with: Array("II*\0".utf8))
    guard exif.count >= head, little || exif.starts(with: Array("MM\0*".utf8)) else { return 1 }
    let start = number(exif, at: 4, count: 4, little: little)
    guard start + 2 <= exif.count else { return 1 }
    for index in 0..<number(exif, at: start, count: 2, little: little) {
        let at = start + 2 + entry * index
        if at + entry > exif.count { return 1 }
        if number(exif, at: at, count: 2, little: little) != tag { continue }
        let value = number(exif, at: at + 8, count: 2, little: little)
        let kind = number(exif, at: at + 2, count: 2, little: little)
        let valid = kind == short && number(exif, at: at + 4, count: 4, little: little) == 1
        return valid && (1...8).contains(value) ? value : 1
    }
    return 1
}

/// The number in `count` bytes, which have to be there, from `at` on.
func number(_ bytes: [UInt8], at: Int, count: Int, little: Bool = false) -> Int {
    (0..<count).reduce(0) { $0 << 8 | Int(bytes[at + (little ? count - 1 - $1 : $1)]) }
}
