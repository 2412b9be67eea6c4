package @PACKAGE@

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import kotlin.math.max
import kotlin.math.min
import kotlin.math.roundToInt

private const val TURN = 0.61803398875 // of the circle of hues: neighbouring classes are far apart, no two are alike
private const val OPAQUE = 255 shl 24

/**
 * A copy of [image], in which this was found, under it: masks, the classes of pixels, and boxes with their names, the best
 * over the others. The image has to be upright. Call it off the main thread.
 */
fun Findings.draw(image: Bitmap): Bitmap {
    require(image.width == width && image.height == height) { "this was found in an image of ${width}x$height" }
    val drawn = checkNotNull(image.copy(Bitmap.Config.ARGB_8888, true)) { "there is no memory for a copy" }
    val line = IntArray(width)
    for (y in 0 until if (map == null && things.all { it.mask == null }) 0 else height) {
        drawn.getPixels(line, 0, width, 0, y, width, 1)
        colour(line, y)
        drawn.setPixels(line, 0, width, 0, y, width, 1)
    }
    val canvas = Canvas(drawn)
    val longest = max(width, height)
    val paint = Paint().apply {
        strokeWidth = max(1f, longest / 400f)
        textSize = max(10f, longest / 50f)
    }
    for (thing in things.reversed()) {
        val (left, top, right, bottom) = listOf(thing.box.left, thing.box.top, thing.box.right, thing.box.bottom)
            .map { it.toFloat() }
        paint.color = colourOf(thing.index)
        paint.style = Paint.Style.STROKE
        canvas.drawRect(left, top, right, bottom, paint)
        paint.style = Paint.Style.FILL
        canvas.drawText(thing.label, left + paint.strokeWidth, max(top - paint.strokeWidth, paint.textSize), paint)
    }
    return drawn
}

/** A row of pixels, half of each the colour of what covers it. */
internal fun Findings.colour(line: IntArray, y: Int) {
    map?.let { map -> for (x in line.indices) line[x] = mixed(line[x], colourOf(map[x, y])) }
    for (thing in things.reversed()) {
        val mask = thing.mask ?: continue
        val colour = colourOf(thing.index)
        for (x in mask.left until mask.left + mask.width) if (mask.covers(x, y)) line[x] = mixed(line[x], colour)
    }
}

/** The colour of a class, the same in every image, as Android has colours. */
internal fun colourOf(index: Int): Int {
    val saturation = if (index / 12 % 2 == 0) 0.9 else 0.55
    fun channel(offset: Int): Int {
        val turn = (offset + index * TURN % 1 * 6) % 6
        return (255 * 0.95 * (1 - saturation * max(0.0, min(min(turn, 4 - turn), 1.0)))).roundToInt()
    }
    return OPAQUE or (channel(5) shl 16) or (channel(3) shl 8) or channel(1)
}

private fun mixed(one: Int, other: Int): Int =
    OPAQUE or listOf(16, 8, 0).sumOf { ((one shr it and 255) + (other shr it and 255) + 1) / 2 shl it }
