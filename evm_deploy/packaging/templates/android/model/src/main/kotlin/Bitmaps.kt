package @PACKAGE@

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import java.io.ByteArrayOutputStream
import java.io.InputStream
import java.nio.ByteBuffer

private const val MOST_BYTES = 1 shl 29

/**
 * The pixels of an image file, PNG or JPEG, upright as its EXIF says: those that the network was evaluated with.
 *
 * PNG is read here. JPEG is decoded by Android, without its colour profile; Android's decoder may round otherwise.
 * Throws FormatException for any other file, a damaged one, and kinds of JPEG that decoders treat in different ways.
 */
fun readImage(file: InputStream): Pixels {
    val bytes = file.readAtMost(MOST_BYTES)
    if (bytes.startsWith(PNG)) return readPng(bytes)
    if (!bytes.startsWith(JPEG)) throw FormatException("the file is not an image that is read here: PNG, JPEG")
    val jpeg = Jpeg(bytes)
    val options = BitmapFactory.Options().apply {
        inPreferredConfig = Bitmap.Config.ARGB_8888
        inScaled = false
    }
    val bitmap = BitmapFactory.decodeByteArray(jpeg.bytes, 0, jpeg.bytes.size, options) ?: damaged()
    return bitmap.pixels(jpeg.orientation).also { bitmap.recycle() }
}

/**
 * The pixels of a bitmap in its own colours, which are not converted. Transparency is dropped.
 *
 * [orientation] is the value of the photograph's EXIF tag, which decoding a file with BitmapFactory ignores. Throws
 * FormatException where colours were lost before: in a bitmap that is not ARGB_8888, or translucent and premultiplied.
 */
fun Bitmap.pixels(orientation: Int = 1): Pixels {
    if (config != Bitmap.Config.ARGB_8888) throw FormatException("a bitmap of $config: decode it as ARGB_8888")
    val (bytes, stride) = ByteArray(rowBytes * height) to rowBytes
    copyPixelsToBuffer(ByteBuffer.wrap(bytes)) // red, green, blue and alpha; getPixels would convert them to sRGB
    val rgb = ByteArray(3 * width * height)
    var at = 0
    for (y in 0 until height) {
        for (x in 0 until width) {
            val from = y * stride + 4 * x
            if (isPremultiplied && bytes[from + 3] != 255.toByte()) {
                throw FormatException("a translucent bitmap has lost colours: decode it with inPremultiplied = false")
            }
            for (channel in 0 until 3) rgb[at++] = bytes[from + channel]
        }
    }
    return Pixels(width, height, rgb).upright(orientation)
}

/** The [top] best classes of a bitmap, best first. Call it off the main thread. */
fun ModelRunner.classify(image: Bitmap, top: Int = 5, orientation: Int = 1): List<Prediction> =
    classify(image.pixels(orientation), top)

/** The [top] best classes of an image file, see [readImage], best first. Call it off the main thread. */
fun ModelRunner.classify(file: InputStream, top: Int = 5): List<Prediction> = classify(readImage(file), top)

/** What a detector or segmenter finds in a bitmap, in the pixels of the upright image. Call it off the main thread. */
fun ModelRunner.find(image: Bitmap, orientation: Int = 1): Findings = find(image.pixels(orientation))

/** What it finds in an image file, see [readImage], in the pixels of the upright image. Call it off the main thread. */
fun ModelRunner.find(file: InputStream): Findings = find(readImage(file))

private fun InputStream.readAtMost(limit: Int): ByteArray {
    val found = ByteArrayOutputStream()
    val block = ByteArray(1 shl 16)
    while (true) {
        val count = read(block)
        if (count < 0) return found.toByteArray()
        if (found.size() + count > limit) throw FormatException("the file has more than $limit bytes")
        found.write(block, 0, count)
    }
}
