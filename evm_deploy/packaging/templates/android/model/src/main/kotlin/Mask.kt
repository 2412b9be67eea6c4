package @PACKAGE@

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max

private const val LEAST = 0.5f // the probability from which on a pixel is covered

/**
 * The pixels of an image that a thing covers: none outside of [left], [top], [width] and [height].
 *
 * It is kept as the probabilities of cells that lie over the box, interpolated linearly at the middle of a pixel.
 */
class Mask internal constructor(private val cells: Output, private val place: Int, box: Box, image: Size) {
    private val rows = cells.shape[1].toInt()
    private val columns = cells.shape[2].toInt()
    private val down = Side(box.top, box.bottom, image.height, rows)
    private val across = Side(box.left, box.right, image.width, columns)

    val left: Int get() = across.first
    val top: Int get() = down.first
    val width: Int get() = across.lower.size
    val height: Int get() = down.lower.size

    /** Whether it covers the pixel of the image at [x], [y]. */
    fun covers(x: Int, y: Int): Boolean {
        val (column, row) = x - left to y - top
        if (column !in 0 until width || row !in 0 until height) return false
        val one = column(across.lower[column], row) * across.lowerShare[column]
        val other = column(across.lower[column] + 1, row) * across.upperShare[column]
        return one + other >= LEAST
    }

    /** A column of cells at a row of pixels. */
    private fun column(column: Int, row: Int): Float {
        val at = down.lower[row]
        return cell(at, column) * down.lowerShare[row] + cell(at + 1, column) * down.upperShare[row]
    }

    private fun cell(row: Int, column: Int): Float =
        if (row in 0 until rows && column in 0 until columns) cells.values[(place * rows + row) * columns + column] else 0f
}

/** The pixels of a side that a box reaches, and one more on either side; of each the two cells that it lies between. */
private class Side(from: Double, to: Double, length: Int, cells: Int) {
    val first: Int
    val lower: IntArray
    val lowerShare: FloatArray
    val upperShare: FloatArray

    init {
        val (start, end) = from.toFloat() to to.toFloat()
        first = (floor(start.toDouble()) - 1).coerceIn(0.0, length.toDouble()).toInt()
        val last = (ceil(end.toDouble()) + 1).coerceIn(0.0, length.toDouble()).toInt()
        val places = FloatArray(max(last - first, 0)) {
            val at = if (end != start) (first + it + 0.5f - start) / (end - start) else 0.5f
            at * cells - 0.5f
        }
        lower = IntArray(places.size) { floor(places[it]).toInt() }
        lowerShare = FloatArray(places.size) { 1 - abs(places[it] - lower[it]) }
        upperShare = FloatArray(places.size) { 1 - abs(places[it] - (lower[it] + 1)) }
    }
}
