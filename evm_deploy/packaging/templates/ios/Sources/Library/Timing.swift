import Foundation

/// How a warm-up ended: the calls of each contender, and which of them were steady by then.
struct Settled {
    let runs: Int
    let steady: [Bool]
}

/// Contenders that take turns. In a turn each is called once without being timed, which brings back the caches that the
/// others took, and once timed; every second turn goes backwards.
struct Turns {
    private static let window = 5  // turns, at least
    private static let windowSeconds = 0.1  // that a window lasts at least
    private static let agree = 0.05  // medians of two windows that differ by less are one
    private static let mostWindows = 24
    private static let mostSeconds = 20.0  // of warm-up, for each contender
    private static let mostTurns = 200_000

    private let calls: [() throws -> Void]
    private var forwards = false

    init(_ calls: [() throws -> Void]) {
        self.calls = calls
    }

    /// Milliseconds of one timed call of each.
    mutating func next() throws -> [Double] {
        forwards.toggle()
        var times = [Double](repeating: 0, count: calls.count)
        for index in forwards ? Array(calls.indices) : calls.indices.reversed() {
            try calls[index]()
            let start = now()
            try calls[index]()
            times[index] = (now() - start) * 1e3
        }
        return times
    }

    /// Takes at least `least` turns, and goes on until the medians of the last two windows agree, or for too long.
    mutating func warmUp(_ least: Int) throws -> Settled {
        let start = now()
        var history = [try next()]
        let turn = max(2 * history[0].reduce(0, +) / 1e3, 1e-6)
        let window = min(max(Int((Self.windowSeconds / turn).rounded(.up)), Self.window), 100)
        while true {
            for _ in 0..<max(1, window - history.count % window) { history.append(try next()) }
            let steady = calls.indices.map { index in Self.settled(history.map { $0[index] }, window) }
            let late = now() - start > Self.mostSeconds * Double(calls.count)
            let over = steady.allSatisfy { $0 } || late || history.count >= Self.mostWindows * window
            if over && history.count >= least { return Settled(runs: 2 * history.count, steady: steady) }
        }
    }

    /// The turns that were asked for: `iterations`, or as many as `seconds` for each contender allow, at least two.
    mutating func measured(iterations: Int, seconds: Double?) throws -> [[Double]] {
        let start = now()
        var rows: [[Double]] = []
        while rows.count < Self.mostTurns {
            rows.append(try next())
            if let seconds {
                if rows.count >= 2 && now() - start >= seconds * Double(calls.count) { break }
            } else if rows.count >= iterations {
                break
            }
        }
        return rows
    }

    private static func settled(_ times: [Double], _ window: Int) -> Bool {
        guard times.count >= 2 * window else { return false }
        let last = median(times.suffix(window))
        let before = median(times.suffix(2 * window).prefix(window))
        return abs(last - before) <= agree * max(last, before)
    }
}

/// Seconds of a clock that only goes forward.
func now() -> Double {
    Double(DispatchTime.now().uptimeNanoseconds) / 1e9
}

/// The middle value, or the mean of the two that are in the middle.
func median(_ values: some Collection<Double>) -> Double {
    let sorted = values.sorted()
    return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
}
