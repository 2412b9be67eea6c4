package @PACKAGE@

import java.io.File
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

/** The pixels that the network sees are those of the library that it was evaluated with, to the bit. */
class PreprocessingTest {
    private val folder = File("src/test/vectors")

    @Test
    fun cropsAsTheExporterDoes() {
        val cases = parseJson(File(folder, "cases.json").readText()) as List<*>
        cases.map { Fields(it, "the case") }.forEach { case ->
            val image = image(case.string("image"))
            val steps = Preprocessing(case.fields("preprocessing"))
            val found = steps.crop(image.upright(case.integer("orientation").toInt()))
            val expected = image(case.string("crop"))
            assertEquals(expected.width to expected.height, found.width to found.height)
            assertArrayEquals(case.string("crop"), expected.rgb, steps.ordered(found))
            assertArrayEquals(case.string("input"), array(case.string("input")).floats(), steps.normalised(found), 0f)
        }
    }

    private fun array(name: String) = Npy.parse(File(folder, name).readBytes())

    private fun image(name: String): Pixels {
        val array = array(name)
        val (height, width, _) = array.shape.map { it.toInt() }
        return Pixels(width, height, ByteArray(3 * width * height).also { array.bytes.get(it) })
    }
}
