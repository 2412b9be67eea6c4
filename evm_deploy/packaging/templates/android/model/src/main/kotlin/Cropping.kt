package @PACKAGE@

import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** The size that an image of `height` and `width` is resized to, for a canvas. */
private typealias Resize = (Long, Long, Size) -> Pair<Long, Long>

private val RESIZES: Map<String, Resize> = mapOf(
    "cover" to { height, width, canvas ->
        if (canvas.width * height >= canvas.height * width) canvas.width * height / width to canvas.width.toLong()
        else canvas.height.toLong() to canvas.height * width / height
    },
    "squash" to { _, _, canvas -> canvas.height.toLong() to canvas.width.toLong() },
    "letterbox" to { height, width, canvas ->
        if (canvas.width * height <= canvas.height * width) {
            max(1, rounded(canvas.width * height, width)) to canvas.width.toLong()
        } else {
            canvas.height.toLong() to max(1, rounded(canvas.height * width, height))
        }
    },
)

/** The crop in the middle of a resized image, at the size [image]. Throws FormatException for what is unknown. */
internal class Cropping(json: Fields, private val image: Size, private val fill: Long) {
    private val share = json.number("crop_pct")
    private val resize: Resize = known(RESIZES, if ("resize" in json.names) json.string("resize") else "cover")
    private val interpolation = known(INTERPOLATIONS, json.string("interpolation"))

    init {
        if (fill != 0L && resize !== RESIZES["letterbox"]) throw FormatException("the manifest fills where nothing is padded")
    }

    /** The part of [pixels] that the network sees, at its size, in RGB. */
    fun crop(pixels: Pixels): Pixels {
        val canvas = Size(floor(image.height / share).toInt(), floor(image.width / share).toInt())
        val (height, width) = resize(pixels.height.toLong(), pixels.width.toLong(), canvas)
        val (wholeHeight, wholeWidth) = max(height, canvas.height.toLong()) to max(width, canvas.width.toLong())
        checkSize(wholeWidth, max(wholeHeight, pixels.height.toLong()))
        val rows = Visible(wholeHeight.toInt(), height.toInt(), image.height)
        val columns = Visible(wholeWidth.toInt(), width.toInt(), image.width)
        val rgb = ByteArray(3 * image.height * image.width) { fill.toByte() }
        if (rows.count < 1 || columns.count < 1) return Pixels(image.width, image.height, rgb)
        val size = Size(height.toInt(), width.toInt())
        val seen = resizedPart(pixels, size, columns.from, rows.from, Size(rows.count, columns.count), interpolation)
        for (row in 0 until rows.count) {
            val start = 3 * row * columns.count
            val target = 3 * ((row + rows.to) * image.width + columns.to)
            seen.rgb.copyInto(rgb, target, start, start + 3 * columns.count)
        }
        return Pixels(image.width, image.height, rgb)
    }
}

/** Of a side [size] in the middle of [whole], what the crop in the middle has: from where, how much, and to where. */
private class Visible(whole: Int, size: Int, crop: Int) {
    private val start = half(whole - crop) - half(whole - size)
    val from = max(start, 0)
    val count = min(start + crop, size) - from
    val to = from - start
}

/** The nearest whole number to a / b, of two the greater. */
private fun rounded(a: Long, b: Long): Long = (2 * a + b) / (2 * b)

/** Half of a margin; halves of a pixel go to the even neighbour. */
private fun half(margin: Int): Int = margin / 2 + if (margin % 2 == 1 && margin / 2 % 2 == 1) 1 else 0
