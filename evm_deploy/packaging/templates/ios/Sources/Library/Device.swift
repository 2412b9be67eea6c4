import Foundation

/// This device, as far as an app may look.
enum Device {
    static let system = ProcessInfo.processInfo.operatingSystemVersionString

    /// Fields of `device`.
    static func facts() -> [String: Any] {
        var facts: [String: Any] = [
            "kind": "local",
            "name": text("hw.model") ?? "unknown",
            "os": system,
            "cores": ProcessInfo.processInfo.activeProcessorCount,
            "memory_bytes": Int(ProcessInfo.processInfo.physicalMemory),
        ]
        facts["machine"] = text("hw.machine")
        facts["cpu"] = text("machdep.cpu.brand_string")
        return facts
    }

    /// The state of the device now.
    static func snapshot() -> [String: Any] {
        let state = ProcessInfo.processInfo.thermalState
        return ["throttled": state == .serious || state == .critical]
    }

    /// Modes of power.
    static func power() -> [String: String] {
        ["low power mode": ProcessInfo.processInfo.isLowPowerModeEnabled ? "on" : "off"]
    }

    private static func text(_ name: String) -> String? {
        var size = 0
        guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 1 else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
}
