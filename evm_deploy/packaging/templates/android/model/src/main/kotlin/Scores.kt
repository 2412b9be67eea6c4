package @PACKAGE@

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.max

private const val ROUNDING = 1e-3f // how far a probability may be beyond 0 and 1

/** A class of an image: its [label], its place among the classes, and its probability, 0 to 1. */
data class Prediction(val label: String, val index: Int, val probability: Double)

/** The [top] best classes, best first; without labels a class is called by its place. */
internal fun best(scores: FloatArray, logits: Boolean, labels: List<String>?, top: Int): List<Prediction> {
    require(scores.size > 1 && scores.all { it.isFinite() }) { "the network gives no scores" }
    require(logits || scores.all { it > -ROUNDING && it < 1 + ROUNDING }) { "the network gives no probabilities" }
    require(labels == null || labels.size == scores.size) { "${labels?.size} labels for ${scores.size} classes" }
    val shares = if (logits) softmax(scores) else scores.map { it.toDouble() }
    return shares.indices.sortedByDescending { shares[it] }.take(top).map {
        Prediction(labels?.get(it) ?: "class $it", it, shares[it])
    }
}

private fun softmax(logits: FloatArray): List<Double> {
    val powers = logits.map { exp(it.toDouble() - logits.max()) }
    val sum = powers.sum()
    return powers.map { it / sum }
}

/**
 * The largest difference of [found] from [expected] as a share of the largest expected value, at least of 1.
 *
 * Null where a value is not finite, or there are more or fewer of them.
 */
internal fun relativeError(found: List<FloatArray>, expected: List<FloatArray>): Double? {
    if (found.size != expected.size) return null
    var worst = 0.0
    for ((mine, right) in found.zip(expected)) {
        if (mine.size != right.size || !mine.all { it.isFinite() } || !right.all { it.isFinite() }) return null
        var (difference, largest) = 0.0 to 1.0
        for (i in right.indices) {
            difference = max(difference, abs(mine[i].toDouble() - right[i]))
            largest = max(largest, abs(right[i].toDouble()))
        }
        worst = max(worst, difference / largest)
    }
    return worst
}
