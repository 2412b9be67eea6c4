package @PACKAGE@

import java.io.File
import java.io.InputStream
import java.security.MessageDigest

private const val MANIFEST = "manifest.json"
private const val LARGEST_MANIFEST = 1 shl 20

/** Where the files of a bundle are read from. */
fun interface BundleFiles {
    /** The bytes of the file [name], relative to the bundle. Throws IOException. */
    fun open(name: String): InputStream
}

/** A bundle that lies in a folder. */
class FolderFiles(private val folder: File) : BundleFiles {
    override fun open(name: String): InputStream = File(folder, name).inputStream()
}

/** An input or output of the network. */
class Tensor internal constructor(json: Fields) {
    val name = json.string("name")
    val type = json.string("dtype")
    val meaning = json.string("meaning")
}

/**
 * The files of a network, each checked against the manifest when it is read.
 *
 * Throws FormatException: the manifest is not one, or not of a network for onnxruntime.
 */
class ModelBundle(private val files: BundleFiles) {
    /** The hash that stands for every file of the bundle. */
    val sha256: String
    val target: String
    val precision: String
    val task: String
    val input: Tensor
    val outputs: List<Tensor>
    private val modelFile: String
    private val labelsFile: String?
    private val hashes: Map<String, String>
    internal val preprocessing: Preprocessing
    internal val row: Task

    init {
        val text = files.open(MANIFEST).use { it.readAtMost(LARGEST_MANIFEST) }
        sha256 = sha256(text)
        val json = Fields(parseJson(String(text, Charsets.UTF_8)), "the manifest")
        if (json.integer("schema_version") != 1L) throw FormatException("the manifest has another version")
        target = json.string("target")
        precision = json.string("precision")
        task = json.string("task")
        input = Tensor(json.list("inputs").singleOrNull() ?: throw FormatException("the network has not one input"))
        outputs = json.list("outputs").map { Tensor(it) }
        modelFile = json.string("model_file")
        labelsFile = json.stringOrNull("labels")
        hashes = json.strings("files")
        preprocessing = Preprocessing(json.fields("preprocessing"))
        row = TASKS[task] ?: throw FormatException("the task $task is not known here")
        val expected = row.meanings == null || row.meanings == outputs.map { it.meaning }
        if (!expected || (row.locate != null) != preprocessing.fits) throw FormatException("no bundle of ${row.title}")
    }

    /** The network itself. Throws FormatException where it is not the file that was exported. */
    fun model(): ByteArray = read(modelFile)

    /** The names of the classes, or null. */
    fun labels(): List<String>? =
        labelsFile?.let { String(read(it), Charsets.UTF_8).removeSuffix("\n").split("\n") }

    /** The input of the golden pair. */
    fun goldenInput(): Npy = Npy.parse(read("sample/input.npy"))

    /** What the network must give for it. */
    fun goldenOutputs(): List<Output> =
        outputs.indices.map { Npy.parse(read("sample/output${if (outputs.size == 1) "" else it}.npy")) }
            .map { Output(it.shape, it.floats()) }

    /** How far outputs are from the expected ones: by numbers, of detections by matching, of pixels by their classes. */
    fun judge(found: List<Output>, expected: List<Output>, tolerance: Double): Verdict =
        row.judge(found, expected, tolerance)

    private fun read(name: String): ByteArray {
        val expected = hashes[name] ?: throw FormatException("the manifest does not list $name")
        if (name.split('/').any { it in setOf("", ".", "..") }) throw FormatException("$name leaves the bundle")
        val bytes = files.open(name).use { it.readBytes() }
        if (sha256(bytes) != expected) throw FormatException("$name is not the file that was exported")
        return bytes
    }

    private fun InputStream.readAtMost(limit: Int): ByteArray {
        val bytes = ByteArray(limit + 1)
        var count = 0
        while (count <= limit) {
            val more = read(bytes, count, bytes.size - count)
            if (more < 0) return bytes.copyOf(count)
            count += more
        }
        throw FormatException("the manifest has more than $limit bytes")
    }

    private fun sha256(bytes: ByteArray): String =
        MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }
}
