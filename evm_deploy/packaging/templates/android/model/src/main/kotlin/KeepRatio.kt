package @PACKAGE@

import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

private const val ONE = 2048f // a weight has 11 bits

/** The size of an image that is made as large as fits into [box], keeping its ratio. */
internal fun fitted(image: Size, box: Size): Size {
    val factor = min(box.height.toDouble() / image.height, box.width.toDouble() / image.width)
    fun side(length: Int) = max(1, floor(length * factor + 0.5).toInt())
    return Size(side(image.height), side(image.width))
}

/** [image] resized to [size]: every bit as OpenCV's INTER_LINEAR has it, which has no antialiasing. */
internal fun resizedBilinear(image: Pixels, size: Size): Pixels {
    if (size == image.size) return image
    val across = Neighbours(image.width, size.width)
    val down = Neighbours(image.height, size.height)
    val out = ByteArray(3 * size.height * size.width)
    var to = 0
    for (row in 0 until size.height) {
        val upper = 3 * image.width * down.first[row]
        val lower = 3 * image.width * down.second[row]
        for (column in 0 until size.width) {
            for (channel in 0 until 3) {
                val above = across.between(image.rgb, upper + channel, column) * down.near[row] shr 16
                val below = across.between(image.rgb, lower + channel, column) * down.far[row] shr 16
                out[to++] = (above + below + 2 shr 2).toByte()
            }
        }
    }
    return Pixels(size.width, size.height, out)
}

/** Of each place on a side that is resized, the two old places that it lies between, and their weights. */
private class Neighbours(length: Int, count: Int) {
    val first = IntArray(count)
    val second = IntArray(count)
    val near = IntArray(count)
    val far = IntArray(count)

    init {
        val scale = 1 / (count.toDouble() / length) // rounded twice, as OpenCV does
        for (place in 0 until count) {
            val at = ((place + 0.5) * scale - 0.5).toFloat()
            val before = floor(at)
            first[place] = before.toInt().coerceIn(0, length - 1)
            second[place] = (before.toInt() + 1).coerceIn(0, length - 1)
            near[place] = weight(1 - (at - before))
            far[place] = weight(at - before)
        }
    }

    /** The two pixels of a row of [rgb] that begins at [start], weighted, with 4 bits less. */
    fun between(rgb: ByteArray, start: Int, place: Int): Int {
        val left = rgb[start + 3 * first[place]].toInt() and 255
        val right = rgb[start + 3 * second[place]].toInt() and 255
        return left * near[place] + right * far[place] shr 4
    }

    private fun weight(share: Float): Int = round(share * ONE).toInt() // halves become even
}
