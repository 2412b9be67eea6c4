package @PACKAGE@

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin

// In the integer arithmetic of the library that the network was evaluated with: the bytes are the same, to the last
// bit.
private const val BITS = 22 // of the fraction of a weight

/** The pixels of one axis that each resized pixel is made of: weights[i] from first[i] on. */
internal class Taps(val first: IntArray, val weights: Array<IntArray>)

/** Of (size, resized, from, count): the taps of `count` pixels from `from` on, of an axis of `size` that is resized. */
internal typealias Interpolation = (Int, Int, Int, Int) -> Taps

/** All but the nearest are antialiased. */
internal val INTERPOLATIONS: Map<String, Interpolation> = mapOf(
    "nearest" to ::nearest,
    "bilinear" to filtered(1.0, ::triangle),
    "bicubic" to filtered(2.0, ::bicubic),
    "lanczos" to filtered(3.0, ::lanczos),
)

/** Resizes [image] to [size], and returns the part [crop] of it that begins at [left], [top]. */
internal fun resizedPart(
    image: Pixels, size: Size, left: Int, top: Int, crop: Size, interpolation: Interpolation,
): Pixels {
    val columns = interpolation(image.width, size.width, left, crop.width)
    val rows = interpolation(image.height, size.height, top, crop.height)
    val firstRow = rows.first.min()
    val endRow = rows.first.indices.maxOf { rows.first[it] + rows.weights[it].size }
    val narrow = ByteArray(3 * crop.width * (endRow - firstRow))
    for (y in firstRow until endRow) {
        weighted(image.rgb, 3 * y * image.width, 3, columns, narrow, 3 * (y - firstRow) * crop.width, 3)
    }
    val out = ByteArray(3 * crop.width * crop.height)
    for (x in 0 until crop.width) {
        weighted(narrow, 3 * x - 3 * firstRow * crop.width, 3 * crop.width, rows, out, 3 * x, 3 * crop.width)
    }
    return Pixels(crop.width, crop.height, out)
}

/** One line of pixels along an axis: `stride` bytes lie between neighbours. */
private fun weighted(
    source: ByteArray, start: Int, stride: Int, taps: Taps, out: ByteArray, outStart: Int, outStride: Int,
) {
    for (i in taps.first.indices) {
        val weights = taps.weights[i]
        for (channel in 0 until 3) {
            var sum = 1 shl (BITS - 1)
            var at = start + taps.first[i] * stride + channel
            for (weight in weights) {
                sum += (source[at].toInt() and 255) * weight
                at += stride
            }
            out[outStart + i * outStride + channel] = (sum shr BITS).coerceIn(0, 255).toByte()
        }
    }
}

/** Places are summed, which rounds otherwise than a product. */
private fun nearest(size: Int, resized: Int, from: Int, count: Int): Taps {
    val scale = size.toDouble() / resized
    val first = IntArray(count)
    var at = scale * 0.5
    for (place in 0 until from + count) {
        if (place >= from) first[place - from] = min(at.toInt(), size - 1)
        at += scale
    }
    return Taps(first, Array(count) { intArrayOf(1 shl BITS) })
}

private fun filtered(reach: Double, filter: (Double) -> Double): Interpolation = { size, resized, from, count ->
    val scale = size.toDouble() / resized
    val stretch = max(scale, 1.0)
    val support = reach * stretch
    val first = IntArray(count)
    val weights = Array(count) { i ->
        val centre = (from + i + 0.5) * scale
        first[i] = max((centre - support + 0.5).toInt(), 0)
        val end = min((centre + support + 0.5).toInt(), size)
        val exact = DoubleArray(end - first[i]) { filter((it + first[i] - centre + 0.5) * (1.0 / stretch)) }
        var sum = 0.0
        for (weight in exact) sum += weight
        IntArray(exact.size) { fixed(if (sum != 0.0) exact[it] / sum else exact[it]) }
    }
    Taps(first, weights)
}

private fun triangle(distance: Double): Double {
    val x = abs(distance)
    return if (x < 1.0) 1.0 - x else 0.0
}

private fun bicubic(distance: Double): Double {
    val x = abs(distance)
    val a = -0.5
    return when {
        x < 1.0 -> ((a + 2.0) * x - (a + 3.0)) * x * x + 1
        x < 2.0 -> (((x - 5) * x + 8) * x - 4) * a
        else -> 0.0
    }
}

private fun lanczos(distance: Double): Double =
    if (distance >= -3.0 && distance < 3.0) sinc(distance) * sinc(distance / 3) else 0.0

private fun sinc(distance: Double): Double {
    if (distance == 0.0) return 1.0
    val x = distance * PI
    return sin(x) / x
}

private fun fixed(weight: Double): Int {
    val scaled = weight * (1 shl BITS)
    return (if (weight < 0) scaled - 0.5 else scaled + 0.5).toInt()
}
