package @PACKAGE@

/** An RGB image of 8 bits a channel: [rgb] has three bytes a pixel, row by row. */
class Pixels(val width: Int, val height: Int, val rgb: ByteArray) {
    init {
        require(width > 0 && height > 0 && rgb.size.toLong() == 3L * width * height) {
            "${rgb.size} bytes are not an RGB image of ${width}x$height"
        }
    }

    internal val size: Size get() = Size(height, width)

    /** The image turned as the value of its EXIF tag says: [orientation] is 1 (as it is) to 8. */
    fun upright(orientation: Int): Pixels {
        require(orientation in 1..8) { "an EXIF orientation is 1 to 8, not $orientation" }
        if (orientation == 1) return this
        val swapped = orientation >= 5
        val fromRight = orientation in setOf(2, 3, 7, 8)
        val fromBottom = orientation in setOf(3, 4, 6, 7)
        val turned = Pixels(if (swapped) height else width, if (swapped) width else height, ByteArray(rgb.size))
        for (y in 0 until turned.height) {
            for (x in 0 until turned.width) {
                val column = (if (swapped) y else x).let { if (fromRight) width - 1 - it else it }
                val row = (if (swapped) x else y).let { if (fromBottom) height - 1 - it else it }
                val from = 3 * (row * width + column)
                rgb.copyInto(turned.rgb, 3 * (y * turned.width + x), from, from + 3)
            }
        }
        return turned
    }
}
