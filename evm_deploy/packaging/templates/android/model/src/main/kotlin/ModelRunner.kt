package @PACKAGE@

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The kernels of the selective scan. Without them the network gives the same results, several times slower. */
object Operators {
    private const val LIBRARY = "evm_ops"

    /** Whether they are in the app for this processor. */
    val available: Boolean by lazy {
        try {
            System.loadLibrary(LIBRARY)
            true
        } catch (error: UnsatisfiedLinkError) {
            false
        }
    }

    /** The name by which the system finds the library again, once it is loaded. */
    internal val file: String get() = System.mapLibraryName(LIBRARY)
}

/**
 * A network, ready to run. It may be used by several threads; loading takes a while, so keep it.
 *
 * [threads] 0 leaves their number to onnxruntime. [operators] loads our kernels. [configure] may change the session's
 * options. Throws FormatException for a bundle that is damaged, OrtException where onnxruntime refuses the network.
 */
class ModelRunner(
    val bundle: ModelBundle,
    threads: Int = 0,
    val operators: Boolean = Operators.available,
    configure: (OrtSession.SessionOptions) -> Unit = {},
) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment().apply { setTelemetry(false) }
    private val labels = bundle.labels()
    private val session: OrtSession

    init {
        if (bundle.target != "onnx") throw FormatException("the network is for ${bundle.target}")
        session = OrtSession.SessionOptions().use { options ->
            options.setIntraOpNumThreads(threads)
            if (operators) {
                check(Operators.available) { "the app has no operator library for this processor" }
                options.registerCustomOpLibrary(Operators.file)
            }
            configure(options)
            environment.createSession(bundle.model(), options)
        }
    }

    /** The [top] best classes of an image, best first. Throws IllegalStateException for a network without classes. */
    fun classify(image: Pixels, top: Int = 5): List<Prediction> {
        check(bundle.task == "classification") { "the network is ${bundle.row.title}" }
        return best(outputs(image).single().values, bundle.outputs.single().meaning == "logits", labels, top)
    }

    /** What a detector or segmenter finds in an image, in its pixels. Throws IllegalStateException for another network. */
    fun find(image: Pixels): Findings {
        val locate = checkNotNull(bundle.row.locate) { "the network is ${bundle.row.title}" }
        return locate(outputs(image), bundle.preprocessing.place(image), labels)
    }

    /** What the network gives for an image, in the order of the manifest. */
    fun outputs(image: Pixels): List<Output> {
        val steps = bundle.preprocessing
        val cropped = steps.crop(image)
        val input = if (steps.baked) ByteBuffer.wrap(steps.ordered(cropped)) else floatBytes(steps.normalised(cropped))
        return run(input, steps.shape(cropped))
    }

    /** What it gives for an input of [shape] that was prepared elsewhere; the bytes are little-endian. */
    fun run(input: ByteBuffer, shape: LongArray): List<Output> = tensor(input, shape).use { tensor ->
        session.run(mapOf(bundle.input.name to tensor)).use { result ->
            bundle.outputs.map { output(result.get(it.name).get() as OnnxTensor) }
        }
    }

    override fun close() = session.close()

    private fun output(value: OnnxTensor): Output {
        val shape = value.info.shape
        if (shape.any { it == 0L }) return Output(shape, FloatArray(0))
        val values = when (value.info.type) {
            OnnxJavaType.FLOAT -> value.floatBuffer.let { buffer -> FloatArray(buffer.remaining()).also { buffer.get(it) } }
            OnnxJavaType.INT32 -> value.intBuffer.let { buffer -> FloatArray(buffer.remaining()) { buffer.get(it).toFloat() } }
            OnnxJavaType.INT64 -> value.longBuffer.let { buffer -> FloatArray(buffer.remaining()) { buffer.get(it).toFloat() } }
            else -> throw FormatException("an output of type ${value.info.type}")
        }
        return Output(shape, values)
    }

    private fun tensor(input: ByteBuffer, shape: LongArray): OnnxTensor {
        val direct = ByteBuffer.allocateDirect(input.remaining()).order(ByteOrder.nativeOrder())
        direct.put(input.duplicate()).rewind()
        return when (bundle.input.type) {
            "uint8" -> OnnxTensor.createTensor(environment, direct, shape, OnnxJavaType.UINT8)
            "float32" -> OnnxTensor.createTensor(environment, direct.asFloatBuffer(), shape)
            else -> throw FormatException("an input of type ${bundle.input.type}")
        }
    }

    private fun floatBytes(values: FloatArray): ByteBuffer =
        ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asFloatBuffer().put(values) }
}
