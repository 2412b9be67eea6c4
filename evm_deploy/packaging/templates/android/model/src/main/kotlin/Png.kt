package @PACKAGE@

import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.util.zip.CRC32
import java.util.zip.DataFormatException
import java.util.zip.Inflater
import kotlin.math.abs

internal const val PNG = "\u0089PNG\r\n\u001a\n"

// PNG files, read here: Android multiplies colours by their alpha, and converts 16 bits and profiles.
private val SAMPLES = mapOf(0 to 1, 2 to 3, 3 to 1, 4 to 2, 6 to 4) // of a pixel, by type of colour
private val DEPTHS = mapOf(
    0 to listOf(1, 2, 4, 8, 16), 2 to listOf(8, 16), 3 to listOf(1, 2, 4, 8), 4 to listOf(8, 16), 6 to listOf(8, 16),
)
private val PASSES = listOf(
    Pass(0, 0, 8, 8), Pass(4, 0, 8, 8), Pass(0, 4, 4, 8), Pass(2, 0, 4, 4), Pass(0, 2, 2, 4), Pass(1, 0, 2, 2),
    Pass(0, 1, 1, 2),
)
private val CRITICAL = setOf("IHDR", "PLTE", "IDAT", "IEND") // the chunks that a reader must know

/** Which pixels of an image a pass has: the first at [x], [y], and how far apart they are. */
private class Pass(val x: Int, val y: Int, val dx: Int, val dy: Int) {
    fun columns(header: Header) = (header.width - x + dx - 1) / dx
    fun rows(header: Header) = (header.height - y + dy - 1) / dy
}

private class Header(data: ByteBuffer, palette: Boolean) {
    val width = data.getInt(0)
    val height = data.getInt(4)
    val depth = data.get(8).toInt()
    val type = data.get(9).toInt()
    val interlaced = data.get(12).toInt() == 1
    val bits = (SAMPLES[type] ?: 0) * depth // of a pixel
    val colour = type == 2 || type == 6

    init {
        val known = depth in DEPTHS[type].orEmpty() && (type != 3 || palette) && data.get(12) in 0..1
        if (!known || data.getShort(10).toInt() != 0 || width < 1 || height < 1) damaged()
    }

    fun stride(columns: Int): Int = ((columns.toLong() * bits + 7) / 8).toInt()
}

/** The pixels of the bytes of a PNG, upright: without alpha, of 16 bits the high byte. Throws FormatException. */
internal fun readPng(bytes: ByteArray): Pixels {
    val chunks = split(bytes)
    val first = chunks["IHDR"]?.get(0)?.takeIf { it.size == 13 } ?: damaged()
    val header = Header(ByteBuffer.wrap(first), "PLTE" in chunks)
    checkSize(header.width.toLong(), header.height.toLong())
    val passes = (if (header.interlaced) PASSES else listOf(Pass(0, 0, 1, 1)))
        .filter { it.columns(header) > 0 && it.rows(header) > 0 }
    val length = passes.sumOf { it.rows(header).toLong() * (1 + header.stride(it.columns(header))) }
    if (length > Int.MAX_VALUE) damaged()
    val lines = inflated(chunks["IDAT"].orEmpty(), length.toInt())
    val rgb = ByteArray(3 * header.width * header.height)
    val colours = table(header, chunks["PLTE"]?.get(0))
    var at = 0
    for (pass in passes) at = place(header, pass, lines, at, rgb, colours)
    return Pixels(header.width, header.height, rgb).upright(chunks["eXIf"]?.let { orientationOf(it[0]) } ?: 1)
}

/** The bodies of the chunks by name, each held against its checksum, up to the last one. */
private fun split(bytes: ByteArray): Map<String, List<ByteArray>> {
    val data = ByteBuffer.wrap(bytes)
    val chunks = HashMap<String, MutableList<ByteArray>>()
    var at = PNG.length
    var name = ""
    while (name != "IEND") {
        if (bytes.size - at < 12) damaged()
        val length = data.getInt(at)
        if (length < 0 || length > bytes.size - at - 12) damaged()
        val checksum = CRC32().apply { update(bytes, at + 4, length + 4) }.value.toInt()
        if (checksum != data.getInt(at + 8 + length)) damaged()
        name = String(bytes, at + 4, 4, Charsets.ISO_8859_1)
        val first = (name == "IHDR") == (at == PNG.length)
        if (name[0] in 'A'..'Z' && !(name in CRITICAL && first)) damaged()
        chunks.getOrPut(name) { mutableListOf() }.add(bytes.copyOfRange(at + 8, at + 8 + length))
        at += 12 + length
    }
    return chunks
}

/** The first [length] bytes of a stream that has as many. */
private fun inflated(parts: List<ByteArray>, length: Int): ByteArray {
    val packed = ByteArrayOutputStream().apply { parts.forEach { write(it) } }.toByteArray()
    val lines = ByteArray(length)
    val inflater = Inflater().apply { setInput(packed) }
    var at = 0
    try {
        while (at < length) {
            val count = inflater.inflate(lines, at, length - at)
            if (count == 0) damaged()
            at += count
        }
    } catch (error: DataFormatException) {
        damaged()
    } finally {
        inflater.end()
    }
    return lines
}

/** RGB of each value of a pixel of one sample of at most 8 bits; null for other pixels. */
private fun table(header: Header, palette: ByteArray?): ByteArray? {
    if (header.type != 3 && (header.type != 0 || header.depth == 16)) return null
    val level = 255 / ((1 shl header.depth) - 1)
    return ByteArray(3 shl header.depth) {
        if (header.type == 3) palette?.getOrNull(it) ?: 0 else (it / 3 * level).toByte()
    }
}

/** Undoes the filters of one pass and puts its pixels where they belong. Returns where the next pass begins. */
private fun place(
    header: Header, pass: Pass, lines: ByteArray, start: Int, rgb: ByteArray, colours: ByteArray?,
): Int {
    val (columns, rows) = pass.columns(header) to pass.rows(header)
    val stride = header.stride(columns)
    val step = maxOf(1, header.bits / 8)
    var line = start
    for (row in 0 until rows) {
        unfilter(lines, line, stride, step, row > 0)
        val to = 3 * ((pass.y + row * pass.dy) * header.width + pass.x)
        if (colours != null) lookUp(header.depth, lines, line + 1, columns, colours, rgb, to, 3 * pass.dx)
        else copy(header, lines, line + 1, columns, step, rgb, to, 3 * pass.dx)
        line += 1 + stride
    }
    return line
}

/** Adds what the filter of the line at [start] says, from the pixels to the left and, where [below] another, above. */
private fun unfilter(lines: ByteArray, start: Int, stride: Int, step: Int, below: Boolean) {
    val kind = lines[start].toInt()
    if (kind !in 0..4) damaged()
    if (kind == 0) return
    for (at in 0 until stride) {
        val place = start + 1 + at
        val left = if (at < step) 0 else lines[place - step].toInt() and 255
        val above = if (below) lines[place - stride - 1].toInt() and 255 else 0
        val corner = if (below && at >= step) lines[place - stride - 1 - step].toInt() and 255 else 0
        val more = when (kind) {
            1 -> left
            2 -> above
            3 -> (left + above) / 2
            else -> paeth(left, above, corner)
        }
        lines[place] = (lines[place] + more).toByte()
    }
}

private fun paeth(left: Int, above: Int, corner: Int): Int {
    val (a, b, c) = Triple(abs(above - corner), abs(left - corner), abs(left + above - 2 * corner))
    return if (a <= b && a <= c) left else if (b <= c) above else corner
}

private fun lookUp(
    depth: Int, lines: ByteArray, start: Int, columns: Int, colours: ByteArray, rgb: ByteArray, to: Int, apart: Int,
) {
    val last = (1 shl depth) - 1
    for (column in 0 until columns) {
        val bit = column * depth
        val value = (lines[start + bit / 8].toInt() and 255) shr (8 - depth - bit % 8) and last
        colours.copyInto(rgb, to + column * apart, 3 * value, 3 * value + 3)
    }
}

/** Samples of whole bytes, [step] of them a pixel; of 16 bits the high byte comes first. */
private fun copy(
    header: Header, lines: ByteArray, start: Int, columns: Int, step: Int, rgb: ByteArray, to: Int, apart: Int,
) {
    val next = if (header.colour) header.depth / 8 else 0
    for (column in 0 until columns) {
        for (channel in 0 until 3) rgb[to + column * apart + channel] = lines[start + column * step + channel * next]
    }
}
