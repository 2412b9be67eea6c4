package org.evmdeploy.benchmark

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.max

private const val WINDOW = 5 // turns, at least
private const val WINDOW_SECONDS = 0.1 // that a window lasts at least
private const val AGREE = 0.05 // medians of two windows that differ by less are one
private const val MOST_WINDOWS = 24
private const val MOST_SECONDS = 20.0 // of warm-up, for each contender
private const val MOST_TURNS = 200_000

/** How a warm-up ended: the calls of each contender, and which of them were steady by then. */
internal class Settled(val runs: Int, val steady: List<Boolean>)

/**
 * Contenders that take turns. In a turn each is called once without being timed, which brings back the caches that the
 * others took, and once timed; every second turn goes backwards.
 */
internal class Turns(private val calls: List<() -> Unit>) {
    private var forwards = false

    /** Milliseconds of one timed call of each. */
    fun next(): DoubleArray {
        forwards = !forwards
        val times = DoubleArray(calls.size)
        for (index in if (forwards) calls.indices else calls.indices.reversed()) {
            calls[index]()
            val start = System.nanoTime()
            calls[index]()
            times[index] = (System.nanoTime() - start) / 1e6
        }
        return times
    }

    /** Takes at least [least] turns, and goes on until the medians of the last two windows agree, or for too long. */
    fun warmUp(least: Int): Settled {
        val start = System.nanoTime()
        val history = mutableListOf(next())
        val window = ceil(WINDOW_SECONDS / max(2 * history[0].sum() / 1e3, 1e-6)).toInt().coerceIn(WINDOW, 100)
        while (true) {
            repeat(max(1, window - history.size % window)) { history.add(next()) }
            val steady = calls.indices.map { index -> agree(history.map { it[index] }, window) }
            val late = (System.nanoTime() - start) / 1e9 > MOST_SECONDS * calls.size
            val over = steady.all { it } || late || history.size >= MOST_WINDOWS * window
            if (over && history.size >= least) return Settled(2 * history.size, steady)
        }
    }

    /** The turns that were asked for: [iterations], or as many as [seconds] for each contender allow, at least two. */
    fun measured(iterations: Int, seconds: Double?): List<DoubleArray> {
        val start = System.nanoTime()
        val rows = mutableListOf<DoubleArray>()
        while (true) {
            rows.add(next())
            val spent = (System.nanoTime() - start) / 1e9
            val done = if (seconds == null) rows.size >= iterations else rows.size >= 2 && spent >= seconds * calls.size
            if (done || rows.size >= MOST_TURNS) return rows
        }
    }
}

private fun agree(times: List<Double>, window: Int): Boolean {
    if (times.size < 2 * window) return false
    val last = median(times.takeLast(window))
    val before = median(times.takeLast(2 * window).take(window))
    return abs(last - before) <= AGREE * max(last, before)
}

internal fun median(values: List<Double>): Double {
    val sorted = values.sorted()
    return (sorted[(sorted.size - 1) / 2] + sorted[sorted.size / 2]) / 2
}
