package @PACKAGE@

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** A plain array of NumPy's file format: [bytes] is little-endian, the last index runs fastest. */
class Npy private constructor(val shape: LongArray, val type: String, val bytes: ByteBuffer) {
    /** Its numbers. Throws FormatException for other types than float32, float16, uint8, int32 and int64. */
    fun floats(): FloatArray = when (type) {
        "<f4" -> FloatArray(bytes.remaining() / 4) { bytes.getFloat(bytes.position() + 4 * it) }
        "<f2" -> FloatArray(bytes.remaining() / 2) { half(bytes.getShort(bytes.position() + 2 * it).toInt()) }
        "<i4" -> FloatArray(bytes.remaining() / 4) { bytes.getInt(bytes.position() + 4 * it).toFloat() }
        "<i8" -> FloatArray(bytes.remaining() / 8) { bytes.getLong(bytes.position() + 8 * it).toFloat() }
        "|u1" -> FloatArray(bytes.remaining()) { (bytes.get(bytes.position() + it).toInt() and 255).toFloat() }
        else -> throw FormatException("an array of type $type")
    }

    companion object {
        private val SIZES = mapOf("<f4" to 4, "<f2" to 2, "<i4" to 4, "<i8" to 8, "|u1" to 1)
        private val HEADER = Regex("\\{'descr': '([^']+)', 'fortran_order': False, 'shape': \\(([0-9, ]*)\\), \\}\\s*")
        private const val MAGIC = "\u0093NUMPY"

        /** Reads the bytes of an `.npy` file. Throws FormatException: not one, another type, or cut off. */
        fun parse(file: ByteArray): Npy {
            val magic = if (file.size < 12) "" else String(file, 0, 6, Charsets.ISO_8859_1)
            if (magic != MAGIC) throw FormatException("not an .npy file")
            val buffer = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN)
            val start = if (file[6].toInt() == 1) 10 else 12
            val length = if (start == 10) buffer.getShort(8).toInt() and 0xffff else buffer.getInt(8)
            if (length < 0 || length > file.size - start) throw FormatException("an .npy file that is cut off")
            val match = HEADER.matchEntire(String(file, start, length, Charsets.ISO_8859_1))
                ?: throw FormatException("an .npy file of another kind")
            val (type, sides) = match.destructured
            val shape = sides.split(',').map { it.trim() }.filter { it.isNotEmpty() }.map { side(it) }.toLongArray()
            val size = SIZES[type] ?: throw FormatException("an array of type $type")
            val expected = shape.fold(size.toLong()) { product, each -> times(product, each) }
            buffer.position(start + length)
            if (expected != buffer.remaining().toLong()) throw FormatException("an .npy file that is cut off")
            return Npy(shape, type, buffer.slice().order(ByteOrder.LITTLE_ENDIAN))
        }

        private fun side(text: String): Long =
            text.toLongOrNull()?.takeIf { it <= 1 shl 30 } ?: throw FormatException("an array of $text")

        private fun times(product: Long, side: Long): Long =
            if (side == 0L || product <= Int.MAX_VALUE / side) product * side else throw FormatException("a huge array")

        private fun half(bits: Int): Float {
            val exponent = bits shr 10 and 31
            val fraction = bits and 1023
            val size = when (exponent) {
                0 -> fraction / 16777216f
                31 -> if (fraction == 0) Float.POSITIVE_INFINITY else Float.NaN
                else -> Float.fromBits((exponent + 112 shl 23) or (fraction shl 13))
            }
            return if (bits and 0x8000 != 0) -size else size
        }
    }
}
