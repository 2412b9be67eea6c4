package @PACKAGE@

/** The corners of a box in pixels of the image: a pixel of its own reaches from a whole number to the next. */
data class Box(val left: Double, val top: Double, val right: Double, val bottom: Double)

/** One thing in an image: how likely it is, 0 to 1, and its place among the classes; of an instance, its [mask]. */
class Detection internal constructor(
    val label: String, val index: Int, val score: Double, val box: Box, val mask: Mask?,
)

/** A class of pixels, and its [share] of them, 0 to 1. */
data class ClassShare(val label: String, val index: Int, val share: Double)

/** The class of each pixel. */
class ClassMap internal constructor(val width: Int, val height: Int, private val classes: ShortArray) {
    /** The place of a pixel's class among the classes. */
    operator fun get(x: Int, y: Int): Int = classes[y * width + x].toInt() and 0xffff
}

/**
 * What was found in an image of [width] and [height]: [things], the best first, of a detector or instance segmenter;
 * [classes], the largest first, and the [map] of them, of a semantic segmenter.
 */
class Findings internal constructor(
    val width: Int,
    val height: Int,
    val things: List<Detection> = emptyList(),
    val classes: List<ClassShare> = emptyList(),
    val map: ClassMap? = null,
)

private const val MOST_CLASSES = 1 shl 16 // that a network may have

/** Boxes (n, 4) as corners, scores (n), classes (n) and, of instances, masks (n, h, w), in the pixels of the image. */
internal fun locateThings(found: List<Output>, placement: Placement, labels: List<String>?): Findings {
    val (boxes, scores, classes) = found
    val count = countThings(found)
    val (size, content) = placement
    val (across, down) = size.width.toDouble() / content.width to size.height.toDouble() / content.height
    val things = List(count) { at ->
        val (left, top, right, bottom) = List(4) { boxes.values[4 * at + it] * if (it % 2 == 0) across else down }
        val score = scores.values[at].toDouble()
        val valid = listOf(left, top, right, bottom).all { it.isFinite() } && score in 0.0..1.0
        if (!valid) throw FormatException("the network gives boxes that are none")
        val index = classOf(classes.values[at])
        val box = Box(left, top, right, bottom)
        Detection(name(labels, index), index, score, box, found.getOrNull(3)?.let { Mask(it, at, box, size) })
    }
    return Findings(size.width, size.height, things)
}

/** A map of the classes of pixels (1, h, w), cut to the image in it and resized to it: the pixel under each middle. */
internal fun locateClasses(found: List<Output>, placement: Placement, labels: List<String>?): Findings {
    val (size, content) = placement
    val (batch, rows, columns) = found.single().shape.also { if (it.size != 3) notClasses() }
    if (batch != 1L || rows < content.height || columns < content.width) notClasses()
    val across = IntArray(size.width) { nearest(it, size.width, content.width) }
    val counts = java.util.TreeMap<Int, Int>()
    val map = ShortArray(size.height * size.width)
    for (y in 0 until size.height) {
        val from = nearest(y, size.height, content.height) * columns.toInt()
        for (x in 0 until size.width) {
            val index = classOf(found[0].values[from + across[x]])
            map[y * size.width + x] = index.toShort()
            counts.merge(index, 1, Int::plus)
        }
    }
    val classes = counts.map { (index, count) -> ClassShare(name(labels, index), index, count.toDouble() / map.size) }
    val sorted = classes.sortedByDescending { it.share }
    return Findings(size.width, size.height, classes = sorted, map = ClassMap(size.width, size.height, map))
}

/** How many there are. Throws FormatException where the outputs do not belong together. */
internal fun countThings(found: List<Output>): Int {
    val count = found[1].values.size
    val shapes = listOf(longArrayOf(4), longArrayOf(), longArrayOf())
    val fits = found.size in 3..4 && found.all { it.shape.isNotEmpty() && it.shape[0] == count.toLong() } &&
        shapes.indices.all { found[it].shape.drop(1) == shapes[it].toList() } && (found.size < 4 || found[3].shape.size == 3)
    return if (fits) count else throw FormatException("the network gives boxes that are none")
}

private fun nearest(at: Int, length: Int, content: Int) = minOf(((at + 0.5) * content / length).toInt(), content - 1)

private fun classOf(value: Float): Int = if (value >= 0 && value < MOST_CLASSES) value.toInt() else notClasses()

private fun notClasses(): Nothing = throw FormatException("the network gives classes that are none")

private fun name(labels: List<String>?, index: Int) = labels?.getOrNull(index) ?: "class $index"
