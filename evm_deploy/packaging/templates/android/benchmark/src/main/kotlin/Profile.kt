package org.evmdeploy.benchmark

import @PACKAGE@.FormatException
import @PACKAGE@.ModelBundle
import @PACKAGE@.ModelRunner
import @PACKAGE@.Operators

private const val FEW = 100 // samples: with fewer, the 99th percentile is the largest one
private const val LOADING = "loading includes reading the file and checking its hash"
private const val NO_OPERATORS = "the operators are not in the app for this processor: the portable form was measured"

/** The facts that the phone gives. */
interface Probe {
    /** Fields of `device`. */
    fun device(): Map<String, Any?>

    /** The state of the phone now. */
    fun snapshot(): Map<String, Any?>

    /** Fields of `versions`. */
    fun versions(): Map<String, String>

    /** Modes of power. */
    fun power(): Map<String, String>

    /** The largest size that the process had, in bytes, or null. */
    fun peakMemory(): Long?

    /** Now, UTC, ISO 8601. */
    fun now(): String
}

/** A contender whose outputs are right, or the reason why it is not measured. */
private class Entrant(
    val contender: Contender,
    val fields: MutableMap<String, Any?>,
    val runner: ModelRunner?,
    val call: () -> Unit,
)

/** Measures what [request] says, and returns the profile as a JSON value. [say] hears what is going on. */
fun profile(request: Request, probe: Probe, tool: String, say: (String) -> Unit): Map<String, Any?> {
    val before = probe.snapshot()
    val entrants = request.contenders.map { contender ->
        say("loading ${contender.name}")
        entrant(contender, request.threads)
    }
    val running = entrants.filter { it.runner != null }
    val warnings = mutableListOf<String>()
    try {
        if (running.isNotEmpty()) measure(running, request, warnings, say)
        if (entrants.size == 1 && running.size == 1) {
            running[0].fields["memory"] = probe.peakMemory()?.let { mapOf("peak_bytes" to it) }
        }
    } finally {
        running.forEach { it.runner?.close() }
    }
    val after = probe.snapshot()
    if (after["throttled"] == true) warnings += "the phone was hot: it held its clocks down"
    if (request.affinity.isNotEmpty()) warnings += "the affinity was not set: an app cannot choose its cores"
    return mapOf(
        "schema" to "evm-deploy/profile",
        "version" to 1,
        "device" to probe.device(),
        "conditions" to mapOf(
            "before" to before,
            "after" to after,
            "threads" to request.threads.takeIf { it > 0 },
            "versions" to probe.versions(),
            "power" to probe.power(),
        ),
        "method" to mapOf(
            "iterations" to if (request.seconds == null) request.iterations else null,
            "seconds" to request.seconds,
            "warm_up" to request.warmUp,
            "interleaved" to true,
        ),
        "results" to entrants.map { it.fields },
        "created" to probe.now(),
        "tool" to tool,
        "warnings" to warnings,
    )
}

private fun measure(running: List<Entrant>, request: Request, warnings: MutableList<String>, say: (String) -> Unit) {
    val turns = Turns(running.map { it.call })
    say("warming up")
    val settled = turns.warmUp(request.warmUp)
    say("measuring")
    val rows = turns.measured(request.iterations, request.seconds)
    running.forEachIndexed { index, entrant ->
        entrant.fields["warm_up_runs"] = settled.runs
        entrant.fields["steady"] = settled.steady[index]
        entrant.fields["samples_ms"] = rows.map { it[index] }
        if (!settled.steady[index]) warnings += "${entrant.contender.name}: times had not settled when timing began"
    }
    if (rows.size < FEW) warnings += "${rows.size} samples are few for the 99th percentile"
}

private fun entrant(contender: Contender, threads: Int): Entrant {
    val operators = contender.operators && Operators.available
    val missing = if (contender.operators && !operators) listOf(NO_OPERATORS) else emptyList()
    val fields = linkedMapOf<String, Any?>(
        "name" to contender.name,
        "bundle" to contender.bundle,
        "runtime" to if (operators) "onnxruntime + evm_ops" else "onnxruntime",
        "provider" to "CPUExecutionProvider",
        "target" to "onnx",
        "precision" to "",
        "sha256" to (contender.sha256 ?: ""),
        "size_bytes" to 0,
        "notes" to contender.notes + missing + LOADING,
    )
    var runner: ModelRunner? = null
    try {
        val bundle = ModelBundle(contender.files)
        fields += mapOf("precision" to bundle.precision, "sha256" to bundle.sha256, "size_bytes" to bundle.model().size)
        val wanted = contender.sha256 ?: bundle.sha256
        if (bundle.sha256 != wanted) throw FormatException("it is another bundle (its sha256 differs)")
        val input = bundle.goldenInput()
        val expected = bundle.goldenOutputs()
        val start = System.nanoTime()
        val opened = ModelRunner(bundle, threads, operators).also { runner = it }
        val loaded = System.nanoTime()
        val found = opened.run(input.bytes, input.shape)
        val first = System.nanoTime()
        val verdict = bundle.judge(found, expected, contender.tolerance)
        fields["golden"] =
            mapOf("relative_error" to verdict.error, "tolerance" to verdict.most, "passed" to verdict.passed)
        if (!verdict.passed) throw FormatException("its outputs are not those of the golden pair")
        fields += mapOf("load_ms" to (loaded - start) / 1e6, "first_ms" to (first - loaded) / 1e6)
        return Entrant(contender, fields, opened) { opened.run(input.bytes, input.shape) }
    } catch (error: Exception) {
        fields["error"] = error.message ?: error.javaClass.simpleName
    } catch (error: OutOfMemoryError) {
        fields["error"] = "the phone has not enough memory"
    }
    runner?.close()
    return Entrant(contender, fields, null) {}
}
