package @PACKAGE@

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

/** Each network gives the same outputs on the phone as when it was exported. */
@RunWith(AndroidJUnit4::class)
class GoldenPairTest {
    private val context = InstrumentationRegistry.getInstrumentation().targetContext

    @Test
    fun withStandardOperators() = Model.entries.forEach { check(it, operators = false) }

    @Test
    fun withOurKernels() {
        assertTrue("the operator library was not built for this processor", Operators.available)
        Model.entries.forEach { check(it, operators = true) }
    }

    private fun check(model: Model, operators: Boolean) {
        val bundle = model.bundle(context)
        val input = bundle.goldenInput()
        val found = ModelRunner(bundle, operators = operators).use { it.run(input.bytes, input.shape) }
        val verdict = bundle.judge(found, bundle.goldenOutputs(), model.tolerance)
        assertTrue("$model is off by ${verdict.error}, more than ${verdict.most}", verdict.passed)
    }
}
