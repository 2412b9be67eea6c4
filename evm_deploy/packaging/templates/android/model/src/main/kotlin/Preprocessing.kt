package @PACKAGE@

/** Sides in pixels. */
internal data class Size(val height: Int, val width: Int)

/** Where an image of the size [original] lies in the input of a detector or segmenter: at the upper left, [content]. */
internal data class Placement(val original: Size, val content: Size)

private val ORDERS = mapOf("RGB" to intArrayOf(0, 1, 2), "BGR" to intArrayOf(2, 1, 0))
private val NAMES =
    setOf("image_size", "crop_pct", "interpolation", "channels", "mean", "std", "baked", "resize", "fill", "scale")

/** From an image to the input of the network, as the manifest tells it. Throws FormatException for what is unknown. */
internal class Preprocessing(json: Fields) {
    private val image = size(json, "image_size")
    private val scale = if (json.has("scale")) size(json, "scale") else null // the long and the short side of a box
    private val order = known(ORDERS, json.string("channels"))
    private val mean = json.numbers("mean", 3).map { it.toFloat() }
    private val deviation = json.numbers("std", 3).map { it.toFloat() }
    val baked = json.boolean("baked")

    /** Whether the whole image is fitted into the input, as detectors and segmenters take it. */
    val fits = "resize" in json.names && json.string("resize") == "fit"
    private val cropping: Cropping?

    init {
        val share = json.number("crop_pct")
        val fill = if ("fill" in json.names) json.integer("fill") else 0L
        val fitting = json.string("interpolation") == "opencv_bilinear" && share == 1.0 && fill == 0L
        val shown = if (fits) fitting else scale == null
        val valid = shown && share in 0.1..1.0 && fill in 0L..255L && deviation.all { it > 0f }
        if (!valid || !NAMES.containsAll(json.names)) {
            throw FormatException("the manifest's preprocessing is not valid, or not known here")
        }
        cropping = if (fits) null else Cropping(json, image, fill)
    }

    /** Where an image of a network that [fits] lies in its input. */
    fun place(pixels: Pixels): Placement {
        val original = pixels.size
        if (baked) return Placement(original, original)
        val turned = original.height > original.width
        val box = scale?.let { (long, short) -> if (turned) Size(long, short) else Size(short, long) } ?: image
        return Placement(original, fitted(original, box))
    }

    /** The part of [pixels] that the network sees, in RGB, at its size; or all of them, as large as they fit. */
    fun crop(pixels: Pixels): Pixels = cropping?.crop(pixels) ?: resizedBilinear(pixels, place(pixels).content)

    /** The shape of the network's input for a cropped image. */
    fun shape(cropped: Pixels): LongArray {
        val (height, width) = canvas(cropped).let { it.height.toLong() to it.width.toLong() }
        return if (baked) longArrayOf(1, height, width, 3) else longArrayOf(1, 3, height, width)
    }

    /** The bytes of a cropped image in the order of the network's channels. */
    fun ordered(cropped: Pixels): ByteArray = ByteArray(cropped.rgb.size) { cropped.rgb[it - it % 3 + order[it % 3]] }

    /**
     * The cropped image as numbers, channel by channel; of a network that has not this in itself. There are zeros below
     * and to the right of an image that does not fill the input.
     */
    fun normalised(cropped: Pixels): FloatArray {
        val (rows, columns) = canvas(cropped)
        val values = FloatArray(3 * rows * columns)
        for (channel in 0 until 3) {
            for (y in 0 until cropped.height) {
                val from = 3 * y * cropped.width + order[channel]
                val to = (channel * rows + y) * columns
                for (x in 0 until cropped.width) {
                    val unit = (cropped.rgb[from + 3 * x].toInt() and 255) / 255f
                    values[to + x] = (unit - mean[channel]) / deviation[channel]
                }
            }
        }
        return values
    }

    private fun canvas(cropped: Pixels): Size = if (fits && (baked || scale != null)) cropped.size else image

    private fun size(json: Fields, name: String): Size {
        val (first, second) = json.numbers(name, 2).map { it.toInt() }
        if (first in 1..4096 && second in 1..4096) return Size(first, second)
        throw FormatException("$name in the manifest is not of 1 to 4096 pixels")
    }
}

internal fun <T> known(table: Map<String, T>, word: String): T =
    table[word] ?: throw FormatException("the manifest asks for $word, which is not known here")
