package org.evmdeploy.benchmark

import android.app.ActivityManager
import android.content.Context
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import java.io.File
import java.text.SimpleDateFormat
import java.util.Date
import java.util.Locale
import java.util.TimeZone

private val CORES = File("/sys/devices/system/cpu")
private val FEATURES = setOf("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "avx2", "avx512f", "fma")

/** Facts about this phone; those that an app may not read are null. */
class Phone(private val context: Context) : Probe {
    private val powerManager = context.getSystemService(Context.POWER_SERVICE) as PowerManager

    override fun device(): Map<String, Any?> = mapOf(
        "kind" to "adb",
        "name" to "${Build.MANUFACTURER} ${Build.MODEL}",
        "os" to "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})",
        "machine" to machine(),
        "cpu" to if (Build.VERSION.SDK_INT >= 31) "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}" else Build.HARDWARE,
        "cores" to Runtime.getRuntime().availableProcessors(),
        "features" to features(),
        "memory_bytes" to memory(),
    )

    override fun snapshot(): Map<String, Any?> = mapOf(
        "governor" to read(File(CORES, "cpu0/cpufreq/scaling_governor")),
        "clocks_mhz" to clocks(),
        "throttled" to if (Build.VERSION.SDK_INT >= 29) {
            powerManager.currentThermalStatus >= PowerManager.THERMAL_STATUS_MODERATE
        } else {
            null
        },
    )

    override fun versions(): Map<String, String> =
        mapOf("onnxruntime" to "@ONNXRUNTIME@", "Android" to Build.VERSION.RELEASE)

    override fun power(): Map<String, String> {
        val battery = context.getSystemService(Context.BATTERY_SERVICE) as BatteryManager
        return mapOf(
            "power save" to if (powerManager.isPowerSaveMode) "on" else "off",
            "charging" to if (battery.isCharging) "yes" else "no",
            "battery" to "${battery.getIntProperty(BatteryManager.BATTERY_PROPERTY_CAPACITY)} %",
        )
    }

    override fun peakMemory(): Long? {
        val line = Regex("VmHWM:\\s*([0-9]+) kB").find(read(File("/proc/self/status")).orEmpty())
        return line?.let { it.groupValues[1].toLong() * 1024 }
    }

    override fun now(): String {
        val format = SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss'Z'", Locale.ROOT)
        format.timeZone = TimeZone.getTimeZone("UTC")
        return format.format(Date())
    }

    private fun machine(): String? = System.getProperty("os.arch")

    private fun memory(): Long {
        val manager = context.getSystemService(Context.ACTIVITY_SERVICE) as ActivityManager
        return ActivityManager.MemoryInfo().also { manager.getMemoryInfo(it) }.totalMem
    }

    private fun features(): List<String> {
        val lines = read(File("/proc/cpuinfo")).orEmpty().lineSequence()
        val line = lines.firstOrNull { it.startsWith("Features") || it.startsWith("flags") }
        return line.orEmpty().substringAfter(':').split(' ').filter { it in FEATURES }
    }

    private fun clocks(): List<Double>? =
        (0 until Runtime.getRuntime().availableProcessors())
            .map { read(File(CORES, "cpu$it/cpufreq/scaling_cur_freq"))?.toDoubleOrNull()?.div(1000) ?: return null }

    private fun read(file: File): String? = runCatching { file.readText().trim() }.getOrNull()
}
