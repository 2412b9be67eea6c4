package org.evmdeploy.benchmark

import android.app.Activity
import android.content.Intent
import android.os.Bundle
import android.view.WindowManager
import android.widget.ScrollView
import android.widget.TextView
import @PACKAGE@.Model
import @PACKAGE@.Operators
import java.util.concurrent.Executors

private const val TOOL = "evm-deploy @VERSION@, benchmark app"
private const val PADDING = 48

/**
 * Measures when it is started, and shows what it found.
 *
 * With the extra `request` it does what `request.json` in the folder of that name says (`am start -n
 * org.evmdeploy.benchmark/.BenchmarkActivity --es request NAME`); without it, it measures the networks of the app.
 */
class BenchmarkActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private lateinit var view: TextView

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        view = TextView(this).apply {
            setPadding(PADDING, PADDING, PADDING, PADDING)
            setTextIsSelectable(true)
        }
        setContentView(ScrollView(this).apply { addView(view) })
        begin(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        begin(intent)
    }

    override fun onDestroy() {
        worker.shutdownNow()
        super.onDestroy()
    }

    private fun begin(intent: Intent) {
        val name = intent.getStringExtra("request")
        worker.execute {
            val found = runCatching { if (name == null) own() else asked(name) }
            show(found.fold({ it?.let(::summary) ?: return@execute }, { "failed: ${it.message}" }))
        }
    }

    private fun asked(name: String): Map<String, Any?>? {
        val root = getExternalFilesDir(null) ?: error("there is no storage for files")
        return Job.run(Job.folder(root, name), Phone(this), TOOL, ::show)
    }

    private fun own(): Map<String, Any?> {
        val ways = if (Operators.available) listOf(true, false) else listOf(false)
        val contenders = Model.entries.flatMap { model ->
            ways.map { operators ->
                val name = if (operators) "${model.name} + evm_ops" else model.name
                Contender(name, model.name, model.files(this), operators, model.tolerance)
            }
        }
        return profile(Request(contenders), Phone(this), TOOL, ::show)
    }

    private fun show(text: String) = runOnUiThread { view.text = text }
}

/** A line for each result. */
internal fun summary(profile: Map<String, Any?>): String {
    val results = (profile["results"] as List<*>).map { it as Map<*, *> }
    val lines = results.map { result ->
        val samples = (result["samples_ms"] as? List<*>).orEmpty().map { it as Double }
        val name = result["name"]
        val middle = if (samples.isEmpty()) null else "%.2f ms (median of %d)".format(median(samples), samples.size)
        "$name: ${middle ?: result["error"]}"
    }
    return (lines + (profile["warnings"] as List<*>).map { "warning: $it" }).joinToString("\n")
}
