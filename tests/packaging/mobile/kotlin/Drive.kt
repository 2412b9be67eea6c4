package org.evmdeploy.benchmark

import android.graphics.Bitmap
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64
import org.evmdeploy.efficientvmamba.Fields
import org.evmdeploy.efficientvmamba.Findings
import org.evmdeploy.efficientvmamba.FolderFiles
import org.evmdeploy.efficientvmamba.Mask
import org.evmdeploy.efficientvmamba.ModelBundle
import org.evmdeploy.efficientvmamba.ModelRunner
import org.evmdeploy.efficientvmamba.Npy
import org.evmdeploy.efficientvmamba.Output
import org.evmdeploy.efficientvmamba.Pixels
import org.evmdeploy.efficientvmamba.Preprocessing
import org.evmdeploy.efficientvmamba.PreprocessingTest
import org.evmdeploy.efficientvmamba.best
import org.evmdeploy.efficientvmamba.classify
import org.evmdeploy.efficientvmamba.draw
import org.evmdeploy.efficientvmamba.parseJson
import org.evmdeploy.efficientvmamba.pixels
import org.evmdeploy.efficientvmamba.readImage
import org.evmdeploy.efficientvmamba.writeJson

// What the tests run: a line of JSON in, a line of JSON out, an error as {"error": ...}.

private object Computer : Probe {
    override fun device() = mapOf("kind" to "adb", "name" to "a \"phone\"", "cores" to 2)
    override fun snapshot() = mapOf("throttled" to false, "clocks_mhz" to listOf(1800.5))
    override fun versions() = mapOf("onnxruntime" to "1")
    override fun power() = mapOf("charging" to "no")
    override fun peakMemory() = 123456789L
    override fun now() = "2026-01-02T03:04:05Z"
}

private fun pixels(name: String): Pixels {
    val array = Npy.parse(File(name).readBytes())
    val (height, width, _) = array.shape.map { it.toInt() }
    return Pixels(width, height, ByteArray(3 * width * height).also { array.bytes.get(it) })
}

private fun bitmap(pixels: Pixels): Bitmap {
    val bytes = pixels.rgb.map { it.toInt() and 255 }.chunked(3)
    return Bitmap(pixels.width, bytes.map { (r, g, b) -> (255 shl 24) or (r shl 16) or (g shl 8) or b }.toIntArray())
}

private fun plain(found: Findings) = mapOf(
    "things" to found.things.map { each ->
        val box = each.box.run { listOf(left, top, right, bottom) }
        mapOf("label" to each.label, "index" to each.index, "score" to each.score, "box" to box, "mask" to each.mask?.let { plain(it) })
    },
    "classes" to found.classes.map { listOf(it.label, it.index, it.share) },
    "map" to found.map?.let { map -> (0 until map.height).map { y -> (0 until map.width).map { x -> map[x, y] } } },
)

private fun plain(mask: Mask) = mapOf("left" to mask.left, "top" to mask.top, "rows" to (mask.top until mask.top + mask.height).map { y ->
    (mask.left until mask.left + mask.width).joinToString("") { x -> if (mask.covers(x, y)) "1" else "0" }
})

private fun outputs(names: Any?) = (names as List<*>).map { name -> Npy.parse(File(name as String).readBytes()).let { Output(it.shape, it.floats()) } }

private fun answer(order: Map<*, *>): Any? = when (order["do"]) {
    "json" -> mapOf("value" to parseJson(order["text"] as String))
    "npy" -> Npy.parse(File(order["file"] as String).readBytes()).let { mapOf("shape" to it.shape.toList(), "values" to it.floats().toList()) }
    "vectors" -> PreprocessingTest().run { cropsAsTheExporterDoes(); mapOf("passed" to true) }
    "image" -> readImage(File(order["file"] as String).inputStream()).let { found ->
        mapOf("width" to found.width, "height" to found.height, "rgb" to Base64.getEncoder().encodeToString(found.rgb))
    }
    "bitmap" -> Bitmap(1, intArrayOf((order["colour"] as Long).toInt()), order["premultiplied"] == true, Bitmap.Config.valueOf(order["config"] as String))
        .pixels().let { found -> mapOf("rgb" to found.rgb.map { it.toInt() and 255 }) }
    "steps" -> Preprocessing(Fields(order["steps"], "the steps")).let { mapOf("baked" to it.baked) }
    "prepare" -> Preprocessing(Fields(order["steps"], "the steps")).let { steps ->
        val cropped = steps.crop(pixels(order["image"] as String))
        val input = if (steps.baked) ByteBuffer.wrap(steps.ordered(cropped)) else steps.normalised(cropped).let { values ->
            ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asFloatBuffer().put(values) }
        }
        mapOf("shape" to steps.shape(cropped).toList(), "input" to Base64.getEncoder().encodeToString(input.array()))
    }
    "best" -> best((order["scores"] as List<*>).map { (it as Number).toFloat() }.toFloatArray(), order["logits"] == true, null, 2)
        .let { found -> mapOf("found" to found.map { it.label }) }
    "job" -> mapOf("done" to (Job.run(Job.folder(File(order["root"] as String), order["name"] as String), Computer, "test") {} != null))
    "summary" -> mapOf("text" to summary(parseJson(File(order["file"] as String).readText()).let { @Suppress("UNCHECKED_CAST") (it as Map<String, Any?>) }))
    "find" -> ModelRunner(ModelBundle(FolderFiles(File(order["bundle"] as String))), operators = true).use { runner ->
        mapOf("found" to (order["images"] as List<*>).map { plain(runner.find(pixels(it as String))) })
    }
    "draw" -> ModelRunner(ModelBundle(FolderFiles(File(order["bundle"] as String))), operators = true).use { runner ->
        val image = pixels(order["image"] as String)
        val drawn = runner.find(image).draw(bitmap(image)).pixels()
        mapOf("rgb" to Base64.getEncoder().encodeToString(drawn.rgb))
    }
    "judge" -> ModelBundle(FolderFiles(File(order["bundle"] as String))).let { bundle ->
        val verdict = bundle.judge(outputs(order["found"]), outputs(order["expected"]), order["tolerance"] as Double)
        mapOf("error" to verdict.error, "most" to verdict.most)
    }
    "classify" -> ModelRunner(ModelBundle(FolderFiles(File(order["bundle"] as String))), operators = order["operators"] == true).use { runner ->
        val found = runner.classify(bitmap(pixels(order["image"] as String)), (order["top"] as Long).toInt())
        mapOf("found" to found.map { listOf(it.label, it.index, it.probability) })
    }
    else -> error("unknown order")
}

fun main() {
    for (line in generateSequence(::readLine)) {
        val found = try {
            answer(parseJson(line) as Map<*, *>)
        } catch (error: Throwable) {
            mapOf("error" to "${error.javaClass.simpleName}: ${error.message}")
        }
        println(writeJson(found))
        System.out.flush()
    }
}
