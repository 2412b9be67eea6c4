package @PACKAGE@

import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** Sides in pixels. */
internal data class Size(val height: Int, val width: Int)

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
private val ORDERS = mapOf("RGB" to intArrayOf(0, 1, 2), "BGR" to intArrayOf(2, 1, 0))
private val NAMES =
    setOf("image_size", "crop_pct", "interpolation", "channels", "mean", "std", "baked", "resize", "fill")

/** From an image to the input of the network, as the manifest tells it. Throws FormatException for what is unknown. */
internal class Preprocessing(json: Fields) {
    private val image = json.numbers("image_size", 2).map { it.toInt() }.let { (height, width) -> Size(height, width) }
    private val share = json.number("crop_pct")
    private val resize: Resize = known(RESIZES, if ("resize" in json.names) json.string("resize") else "cover")
    private val fill = if ("fill" in json.names) json.integer("fill") else 0L
    private val interpolation = known(INTERPOLATIONS, json.string("interpolation"))
    private val order = known(ORDERS, json.string("channels"))
    private val mean = json.numbers("mean", 3).map { it.toFloat() }
    private val deviation = json.numbers("std", 3).map { it.toFloat() }
    val baked = json.boolean("baked")

    init {
        val sides = image.height in 1..4096 && image.width in 1..4096 && share in 0.1..1.0
        val padded = fill in 0L..255L && (fill == 0L || resize === RESIZES["letterbox"])
        val valid = sides && padded && deviation.all { it > 0f } && NAMES.containsAll(json.names)
        if (!valid) throw FormatException("the manifest's preprocessing is not valid, or not known here")
    }

    /** The shape of the network's input. */
    val shape: LongArray
        get() {
            val (height, width) = image.height.toLong() to image.width.toLong()
            return if (baked) longArrayOf(1, height, width, 3) else longArrayOf(1, 3, height, width)
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

    /** The bytes of a cropped image in the order of the network's channels. */
    fun ordered(cropped: Pixels): ByteArray = ByteArray(cropped.rgb.size) { cropped.rgb[it - it % 3 + order[it % 3]] }

    /** The cropped image as numbers, channel by channel; of a network that has not this in itself. */
    fun normalised(cropped: Pixels): FloatArray {
        val plane = cropped.width * cropped.height
        val values = FloatArray(3 * plane)
        for (channel in 0 until 3) {
            for (place in 0 until plane) {
                val unit = (cropped.rgb[3 * place + order[channel]].toInt() and 255) / 255f
                values[channel * plane + place] = (unit - mean[channel]) / deviation[channel]
            }
        }
        return values
    }
}

/** Of a side [size] in the middle of [whole], what the crop in the middle has: from where, how much, and to where. */
private class Visible(whole: Int, size: Int, crop: Int) {
    private val start = half(whole - crop) - half(whole - size)
    val from = max(start, 0)
    val count = min(start + crop, size) - from
    val to = from - start
}

private fun <T> known(table: Map<String, T>, word: String): T =
    table[word] ?: throw FormatException("the manifest asks for $word, which is not known here")

/** The nearest whole number to a / b, of two the greater. */
private fun rounded(a: Long, b: Long): Long = (2 * a + b) / (2 * b)

/** Half of a margin; halves of a pixel go to the even neighbour. */
private fun half(margin: Int): Int = margin / 2 + if (margin % 2 == 1 && margin / 2 % 2 == 1) 1 else 0
