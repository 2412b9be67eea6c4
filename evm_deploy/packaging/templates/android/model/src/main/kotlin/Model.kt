package @PACKAGE@

import android.content.Context

/** The networks of this module. [tolerance] is how far from the golden outputs the results may be, relatively. */
enum class Model(internal val folder: String, val tolerance: Double) {
@MODELS@
    ;

    /** Its files among the app's assets. */
    fun files(context: Context): BundleFiles = BundleFiles { context.assets.open("evm/$folder/$it") }

    /** Its manifest, with all facts about it. */
    fun bundle(context: Context): ModelBundle = ModelBundle(files(context))

    /** Loads it, with our kernels where the app has them: takes a while, so keep what it returns, and close it once. */
    fun open(context: Context, threads: Int = 0): ModelRunner = ModelRunner(bundle(context), threads)
}
