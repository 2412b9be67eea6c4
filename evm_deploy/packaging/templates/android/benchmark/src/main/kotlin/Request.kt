package org.evmdeploy.benchmark

import @PACKAGE@.BundleFiles
import @PACKAGE@.Fields
import @PACKAGE@.FolderFiles
import @PACKAGE@.FormatException
import @PACKAGE@.parseJson
import java.io.File

/** A bundle, run in one way. [sha256] is what its manifest must have, where that is known. */
class Contender(
    val name: String,
    val bundle: String,
    val files: BundleFiles,
    val operators: Boolean,
    val tolerance: Double,
    val sha256: String? = null,
    val notes: List<String> = emptyList(),
)

/** What is measured, and how often: [iterations] times, or for [seconds] where they are set. */
class Request(
    val contenders: List<Contender>,
    val iterations: Int = 100,
    val seconds: Double? = null,
    val warmUp: Int = 5,
    val threads: Int = 0,
    val affinity: List<Long> = emptyList(),
) {
    init {
        if (contenders.size !in 1..256) throw FormatException("a request has 1 to 256 contenders")
        val counts = iterations in 2..100_000 && warmUp in 1..10_000 && threads in 0..1024
        if (!counts) throw FormatException("a count is out of range")
        if (seconds != null && seconds !in 0.05..3600.0) throw FormatException("the seconds are out of range")
    }

    companion object {
        private const val VERSION = 1L
        private const val LARGEST = 4L shl 20
        private val FOLDER = Regex("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

        /** Reads `request.json` of [folder]; the bundles lie in folders beside it. Throws FormatException. */
        fun read(folder: File): Request {
            val file = File(folder, "request.json")
            if (file.length() > LARGEST) throw FormatException("the request is too large")
            val json = Fields(parseJson(file.readText()), "the request")
            if (json.integer("version") != VERSION) throw FormatException("this app reads requests of version $VERSION")
            val options = json.fields("options")
            return Request(
                json.list("contenders").map { contender(it, folder) },
                options.count("iterations"),
                if (options.has("seconds")) options.number("seconds") else null,
                options.count("warm_up"),
                options.count("threads"),
                options.integers("affinity"),
            )
        }

        private fun contender(json: Fields, folder: File): Contender {
            val runner = json.string("runner")
            if (runner != "onnxruntime") throw FormatException("this app has no $runner")
            val provider = json.stringOrNull("provider") ?: "CPUExecutionProvider"
            if (provider != "CPUExecutionProvider") throw FormatException("this app has no $provider")
            val place = json.string("folder")
            if (!FOLDER.matches(place)) throw FormatException("$place is not a folder's name")
            return Contender(
                json.string("name"),
                json.string("bundle"),
                FolderFiles(File(folder, place)),
                json.has("library"),
                json.number("tolerance"),
                json.string("sha256"),
                json.texts("notes"),
            )
        }

        private fun Fields.count(name: String): Int =
            integer(name).takeIf { it in 0..100_000 }?.toInt() ?: throw FormatException("$name is out of range")
    }
}
