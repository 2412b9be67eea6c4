package @PACKAGE@

import java.io.ByteArrayOutputStream

internal const val JPEG = "\u00ff\u00d8\u00ff"

// Second bytes of markers.
private const val TABLES = 0xc4
private val RESTARTS = 0xd0..0xd7
private const val START = 0xd8
private const val END = 0xd9
private const val SCAN = 0xda
private val FRAMES = setOf(0xc0, 0xc1, 0xc2) // baseline, extended, progressive
private val KEPT = setOf(0xe0, 0xee) // of the segments for applications, JFIF and Adobe: they say what the channels are
private const val EXIF = "Exif\u0000\u0000"

/**
 * A JPEG, taken apart before the system decodes it: what decoders treat in different ways is left out or refused.
 *
 * Throws FormatException: damaged, cut off, too large, or not of 8 bits in grey or three colours.
 */
internal class Jpeg(private val file: ByteArray) {
    /** The first picture, without profile and EXIF. */
    val bytes: ByteArray
    /** Of its first EXIF. */
    val orientation: Int

    init {
        val kept = ByteArrayOutputStream(file.size)
        var exif: ByteArray? = null
        var seen = false
        var scanning = false
        var at = 0
        while (true) {
            val start = nextMarker(at, scanning)
            val marker = byte(start + 1)
            if (scanning) kept.write(file, at, start - at)
            if (marker == END) {
                if (!seen) damaged()
                kept.write(file, start, 2)
                break
            }
            val bare = marker == START || marker == 1
            val end = if (bare) start + 2 else start + 2 + word(start + 2)
            if (end > file.size || (!bare && end < start + 4)) damaged()
            if (marker in 0xc0..0xcf && marker != TABLES) checkFrame(marker, start + 4, end, seen)
            seen = seen || marker in FRAMES
            if (marker == 0xe1 && exif == null && end >= start + 4 + EXIF.length && file.startsWith(EXIF, start + 4)) {
                exif = file.copyOfRange(start + 4 + EXIF.length, end)
            }
            val application = marker in 0xe0..0xef || marker == 0xfe
            if (!application || marker in KEPT) kept.write(file, start, end - start)
            if (marker == SCAN && !seen) damaged()
            scanning = marker == SCAN
            at = end
        }
        bytes = kept.toByteArray()
        orientation = exif?.let { orientationOf(it) } ?: 1
    }

    /** Where the next marker is; in a scan, restarts are part of the data. */
    private fun nextMarker(from: Int, scanning: Boolean): Int {
        for (at in from until file.size - 1) {
            val next = byte(at + 1)
            if (byte(at) != 0xff || next == 0 || next == 0xff || (scanning && next in RESTARTS)) continue
            return at
        }
        damaged()
    }

    private fun checkFrame(marker: Int, start: Int, end: Int, seen: Boolean) {
        if (seen || end - start < 6) damaged()
        val (height, width) = word(start + 1) to word(start + 3)
        if (height == 0 || width == 0) damaged()
        checkSize(width.toLong(), height.toLong())
        if (marker !in FRAMES || byte(start) != 8 || byte(start + 5) !in setOf(1, 3)) {
            throw FormatException("this kind of JPEG is not read here: save the image as PNG, or as JPEG in RGB")
        }
    }

    private fun byte(at: Int): Int = if (at < file.size) file[at].toInt() and 255 else damaged()

    private fun word(at: Int): Int = byte(at) * 256 + byte(at + 1)
}
