package @PACKAGE@

import android.graphics.Bitmap

/**
 * The pixels of a bitmap, which has to be in memory that a program can read. Transparency is dropped.
 *
 * [orientation] is the value of the photograph's EXIF tag, which decoding a file with BitmapFactory ignores.
 */
fun Bitmap.pixels(orientation: Int = 1): Pixels {
    val row = IntArray(width)
    val rgb = ByteArray(3 * width * height)
    var at = 0
    for (y in 0 until height) {
        getPixels(row, 0, width, 0, y, width, 1)
        for (colour in row) {
            rgb[at++] = (colour shr 16).toByte()
            rgb[at++] = (colour shr 8).toByte()
            rgb[at++] = colour.toByte()
        }
    }
    return Pixels(width, height, rgb).upright(orientation)
}

/** The [top] best classes of a bitmap, best first. Call it off the main thread. */
fun ModelRunner.classify(image: Bitmap, top: Int = 5, orientation: Int = 1): List<Prediction> =
    classify(image.pixels(orientation), top)
