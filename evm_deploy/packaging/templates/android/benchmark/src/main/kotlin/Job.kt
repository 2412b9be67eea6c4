package org.evmdeploy.benchmark

import @PACKAGE@.FormatException
import @PACKAGE@.writeJson
import java.io.File
import java.io.IOException

/** A profile that was asked for in a folder of its own: `request.json`, and then `profile.json` or `error.txt`. */
object Job {
    private val NAME = Regex("[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")

    /** The folder [name] of [root]. Throws FormatException for what is no plain name, or not there. */
    fun folder(root: File, name: String): File {
        if (!NAME.matches(name)) throw FormatException("$name is not the name of a request")
        return File(root, name).takeIf { it.isDirectory } ?: throw FormatException("there is no request $name")
    }

    /** Measures, and writes the complete profile, or the error, beside the request. */
    fun run(folder: File, probe: Probe, tool: String, say: (String) -> Unit): Map<String, Any?>? = try {
        profile(Request.read(folder), probe, tool, say).also { write(folder, "profile.json", writeJson(it)) }
    } catch (error: Exception) {
        fail(folder, error, say)
    } catch (error: OutOfMemoryError) {
        fail(folder, error, say)
    }

    /** Writes a file that becomes visible only when it is complete. */
    fun write(folder: File, name: String, text: String) {
        val partial = File(folder, "$name.tmp")
        partial.writeText(text)
        if (!partial.renameTo(File(folder, name))) throw IOException("$name cannot be written")
    }

    private fun fail(folder: File, error: Throwable, say: (String) -> Unit): Map<String, Any?>? {
        val line = error.message ?: error.javaClass.simpleName
        say("failed: $line")
        runCatching { write(folder, "error.txt", line) }
        return null
    }
}
