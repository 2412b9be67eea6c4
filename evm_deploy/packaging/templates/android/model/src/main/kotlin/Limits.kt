package @PACKAGE@

private const val MOST_PIXELS = 64_000_000L

/** Throws FormatException for an image, as it is or resized, of more pixels than 64 million. */
internal fun checkSize(width: Long, height: Long) {
    if (width * height <= MOST_PIXELS) return
    throw FormatException("the image has more than 64 megapixels, or would be resized to as many")
}

internal fun damaged(): Nothing = throw FormatException("the image is damaged")
