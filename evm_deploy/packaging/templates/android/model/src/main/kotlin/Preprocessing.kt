package @PACKAGE@

import kotlin.math.floor

/** Sides in pixels. */
internal data class Size(val height: Int, val width: Int)

private const val MOST_PIXELS = 64_000_000L

/** From an image to the input of the network, as the manifest tells it: cover, crop the centre, normalise. */
internal class Preprocessing(json: Fields) {
    private val image = json.numbers("image_size", 2).map { it.toInt() }.let { (height, width) -> Size(height, width) }
    private val share = json.number("crop_pct")
    private val mean = json.numbers("mean", 3).map { it.toFloat() }
    private val deviation = json.numbers("std", 3).map { it.toFloat() }
    val baked = json.boolean("baked")

    init {
        val valid = image.height in 1..4096 && image.width in 1..4096 && share in 0.1..1.0
        if (!valid) throw FormatException("the manifest's sizes are not valid")
    }

    /** The shape of the network's input. */
    val shape: LongArray
        get() {
            val (height, width) = image.height.toLong() to image.width.toLong()
            return if (baked) longArrayOf(1, height, width, 3) else longArrayOf(1, 3, height, width)
        }

    /** The part of [pixels] that the network sees, at its size. */
    fun crop(pixels: Pixels): Pixels {
        val cover = Size(floor(image.height / share).toInt(), floor(image.width / share).toInt())
        val wide = cover.width.toLong() * pixels.height >= cover.height.toLong() * pixels.width
        val height = if (wide) cover.width.toLong() * pixels.height / pixels.width else cover.height.toLong()
        val width = if (wide) cover.width.toLong() else cover.height.toLong() * pixels.width / pixels.height
        require(height * width <= MOST_PIXELS) { "an image of ${pixels.width}x${pixels.height} is too narrow" }
        val (top, left) = half(height.toInt() - image.height) to half(width.toInt() - image.width)
        return resizedCrop(pixels, width.toInt(), height.toInt(), left, top, image)
    }

    /** The cropped image as numbers, channel by channel; of a network that has not this in itself. */
    fun normalised(cropped: Pixels): FloatArray {
        val plane = cropped.width * cropped.height
        val values = FloatArray(3 * plane)
        for (channel in 0 until 3) {
            for (place in 0 until plane) {
                val unit = (cropped.rgb[3 * place + channel].toInt() and 255) / 255f
                values[channel * plane + place] = (unit - mean[channel]) / deviation[channel]
            }
        }
        return values
    }

    /** Half of a margin; halves of a pixel go to the even neighbour. */
    private fun half(margin: Int): Int = margin / 2 + if (margin % 2 == 1 && margin / 2 % 2 == 1) 1 else 0
}
