import Foundation

/// A plain array of NumPy's file format: `bytes` is little-endian, the last index runs fastest.
public struct Npy: Sendable {
    public let shape: [Int]
    public let type: String
    public let bytes: Data

    private static let sizes = ["<f4": 4, "<f2": 2, "<i4": 4, "<i8": 8, "|u1": 1]
    private static let magic = Data([0x93]) + Data("NUMPY".utf8)
    private static let beforeType = "{'descr': '"
    private static let beforeShape = "', 'fortran_order': False, 'shape': ("

    /// Reads the bytes of an `.npy` file. Throws ModelError: not one, of another type, or cut off.
    public init(parsing file: Data) throws {
        let file = Data(file)  // with indices from 0 on
        guard file.count >= 12, file.prefix(6) == Self.magic else { throw ModelError("not an .npy file") }
        let start = file[6] == 1 ? 10 : 12
        let length = file[8..<start].reversed().reduce(0) { $0 << 8 | Int($1) }
        guard length <= file.count - start else { throw ModelError("an .npy file that is cut off") }
        let header = String(decoding: file[start..<start + length], as: UTF8.self)
        guard header.hasPrefix(Self.beforeType), let middle = header.range(of: Self.beforeShape),
            let end = header.range(of: "), }"), middle.upperBound <= end.lowerBound
        else { throw ModelError("an .npy file of another kind") }
        type = String(header[..<middle.lowerBound].dropFirst(Self.beforeType.count))
        guard let size = Self.sizes[type] else { throw ModelError("an array of type \(type)") }
        shape = try header[middle.upperBound..<end.lowerBound].split(separator: ",").compactMap(Self.side)
        bytes = Data(file[(start + length)...])
        var expected = size
        for side in shape {
            let (product, overflow) = expected.multipliedReportingOverflow(by: side)
            if overflow { throw ModelError("a huge array") }
            expected = product
        }
        guard expected == bytes.count else { throw ModelError("an .npy file that is cut off") }
    }

    /// Its numbers.
    public func floats() -> [Float] {
        bytes.withUnsafeBytes { raw in
            switch type {
            case "<f4":
                return (0..<raw.count / 4).map {
                    Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
                }
            case "<f2":
                return (0..<raw.count / 2).map {
                    half(UInt16(littleEndian: raw.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)))
                }
            case "<i4":
                return (0..<raw.count / 4).map {
                    Float(Int32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self)))
                }
            case "<i8":
                return (0..<raw.count / 8).map {
                    Float(Int64(littleEndian: raw.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self)))
                }
            default:
                return raw.map { Float($0) }
            }
        }
    }

    private static func side(_ text: Substring) throws -> Int? {
        let digits = text.trimmingCharacters(in: .whitespaces)
        if digits.isEmpty { return nil }
        guard let side = Int(digits), side >= 0 else { throw ModelError("an array of \(digits)") }
        return side
    }
}

private func half(_ bits: UInt16) -> Float {
    let exponent = UInt32(bits >> 10 & 31)
    let fraction = UInt32(bits & 1023)
    let size: Float
    switch exponent {
    case 0: size = Float(fraction) / 16_777_216
    case 31: size = fraction == 0 ? .infinity : .nan
    default: size = Float(bitPattern: (exponent + 112) << 23 | fraction << 13)
    }
    return bits & 0x8000 != 0 ? -size : size
}
