package @PACKAGE@

import java.nio.ByteBuffer
import java.nio.ByteOrder

private const val HEAD = 8
private const val ENTRY = 12
private const val TAG = 0x0112
private const val SHORT = 3

/** EXIF's orientation, 1 to 8, in such a block of bytes; 1 where it has none, or is not EXIF. */
internal fun orientationOf(exif: ByteArray): Int {
    val order = when {
        exif.size < HEAD -> return 1
        exif.startsWith("II*\u0000") -> ByteOrder.LITTLE_ENDIAN
        exif.startsWith("MM\u0000*") -> ByteOrder.BIG_ENDIAN
        else -> return 1
    }
    val data = ByteBuffer.wrap(exif).order(order)
    val table = data.getInt(4).toLong() and 0xffffffffL
    if (table + 2 > exif.size) return 1
    val start = table.toInt()
    for (index in 0 until (data.getShort(start).toInt() and 0xffff)) {
        val at = start + 2 + ENTRY * index
        if (at + ENTRY > exif.size) return 1
        if (data.getShort(at).toInt() != TAG) continue
        val value = data.getShort(at + 8).toInt()
        val valid = data.getShort(at + 2).toInt() == SHORT && data.getInt(at + 4) == 1 && value in 1..8
        return if (valid) value else 1
    }
    return 1
}

/** Whether the bytes begin with those of [text], from [at] on. */
internal fun ByteArray.startsWith(text: String, at: Int = 0): Boolean =
    at + text.length <= size && text.indices.all { this[at + it] == text[it].code.toByte() }
