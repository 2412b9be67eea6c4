package @PACKAGE@

import kotlin.math.min

/** What a network gave: values, the last index running fastest; classes are numbers too. */
class Output(val shape: LongArray, val values: FloatArray)

/** How far outputs are from those expected, null where they cannot be compared, and the [most] that it may be. */
class Verdict(val error: Double?, val most: Double) {
    val passed: Boolean get() = error != null && error <= most
}

/** What depends on the meaning of the outputs. */
internal class Task(
    val title: String,
    val meanings: List<String>?, // of its outputs, in order; null: any
    val judge: (found: List<Output>, expected: List<Output>, tolerance: Double) -> Verdict,
    // What was found in an image, by the outputs, where the image lies in the input, and the names of the classes.
    val locate: ((List<Output>, Placement, List<String>?) -> Findings)? = null,
)

private val THINGS = listOf("boxes", "scores", "labels")
internal val TASKS = mapOf(
    "classification" to Task("a classifier", null, ::judgeNumbers),
    "backbone" to Task("a backbone: it gives feature maps, not classes", null, ::judgeNumbers),
    "detection" to Task("a detector", THINGS, ::judgeThings, ::locateThings),
    "instance_segmentation" to Task("an instance segmenter", THINGS + "masks", ::judgeThings, ::locateThings),
    "semantic_segmentation" to
        Task("a semantic segmenter", listOf("classes of pixels"), ::judgeClasses, ::locateClasses),
)

private const val SAME_BOX = @SAME_BOX@ // intersection over union from which on two boxes are the same
private const val COARSE = @COARSE@ // the tolerance from which on a network has 8 bits, and this makes them one thing:
private const val SAME_THING = @SAME_THING@
private const val MOST_MISSED = @MOST_MISSED@ // of the scores, for each 1e-4 of the tolerance, and at most:
private const val MOST_MISSED_AT_ALL = @MOST_MISSED_AT_ALL@
private const val MOST_DIFFERING = @MOST_DIFFERING@ // of the pixels, for each 1e-4 of the tolerance

private fun judgeNumbers(found: List<Output>, expected: List<Output>, tolerance: Double) =
    Verdict(relativeError(found.map { it.values }, expected.map { it.values }), tolerance)

/** By the share of the scores that detections have which one of the two alone found. */
private fun judgeThings(found: List<Output>, expected: List<Output>, tolerance: Double): Verdict {
    val coarse = tolerance >= COARSE
    val most = if (coarse) tolerance else min(MOST_MISSED * tolerance / 1e-4, MOST_MISSED_AT_ALL)
    val free = (0 until countThings(found)).toMutableSet()
    var matched = 0.0
    for (at in 0 until countThings(expected)) { // the best first choose
        var best: Int? = null
        var largest = if (coarse) SAME_THING else SAME_BOX
        for (other in free) {
            if (found[2].values[other] != expected[2].values[at]) continue
            val common = overlapOf(found[0].values, 4 * other, expected[0].values, 4 * at)
            if (common > largest) {
                best = other
                largest = common
            }
        }
        if (best == null) continue
        free.remove(best)
        matched += expected[1].values[at].toDouble() + found[1].values[best]
    }
    val total = (found[1].values + expected[1].values).sumOf { it.toDouble() }
    return Verdict(if (total == 0.0) 0.0 else (1 - matched / total).takeIf { it.isFinite() }, most)
}

/** By the share of the pixels that have another class. */
private fun judgeClasses(found: List<Output>, expected: List<Output>, tolerance: Double): Verdict {
    val (one, other) = found.single().values to expected.single().values
    val share = one.indices.count { it < other.size && one[it] != other[it] }.toDouble() / one.size
    return Verdict(share.takeIf { one.size == other.size }, MOST_DIFFERING * tolerance / 1e-4)
}

/** Intersection over union of the boxes that begin at [at] and [there]. */
private fun overlapOf(one: FloatArray, at: Int, other: FloatArray, there: Int): Double {
    fun area(box: FloatArray, from: Int) =
        (box[from + 2].toDouble() - box[from]) * (box[from + 3].toDouble() - box[from + 1])
    val (width, height) = List(2) { side ->
        val end = min(one[at + 2 + side].toDouble(), other[there + 2 + side].toDouble())
        maxOf(end - maxOf(one[at + side], other[there + side]), 0.0)
    }
    val common = width * height
    val whole = area(one, at) + area(other, there) - common
    return if (whole > 0) common / whole else 0.0
}
