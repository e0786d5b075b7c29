import Pente

/// Answers the driver's commands.
struct Worker {
    private var current: Work?
    private var secondsPerCall = 0.0

    mutating func answer(_ words: [Substring]) throws -> String {
        switch words.first {
        case "setup":
            guard let job = Job(Array(words.dropFirst())) else { throw Refused(reason: "setup wants more") }
            let made = job.isFloat64 ? try makeWork(job, Double.self) : try makeWork(job, Float.self)
            try made.call()
            let elapsed = try seconds(of: made, calls: 1)
            let value = try made.check?() ?? .nan
            secondsPerCall = try calibrated(made, elapsed)
            current = made
            return "ok \(value)"
        case "time":
            guard let current, let wanted = words.dropFirst().first.flatMap({ Double($0) }) else {
                throw Refused(reason: "nothing to time")
            }
            let timed = try time(current, over: wanted, secondsPerCall: secondsPerCall)
            return "ok \(timed.microseconds) \(timed.calls)"
        case "free":
            current = nil
            return "ok"
        default:
            throw Refused(reason: "no such command")
        }
    }
}

private func seconds(of work: Work, calls: Int) throws -> Double {
    let clock = ContinuousClock()
    let start = clock.now
    for _ in 0..<calls { try work.call() }
    let elapsed = (clock.now - start).components
    return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
}

/// Roughly the seconds of a call, given how long one took; what is short is timed again, more at once.
private func calibrated(_ work: Work, _ elapsed: Double) throws -> Double {
    var (calls, elapsed) = (1, elapsed)
    while elapsed < 1e-3 {
        calls *= 2
        elapsed = try seconds(of: work, calls: calls)
    }
    return elapsed / Double(calls)
}

/// Microseconds of a call, over about so many seconds after a warm-up. A call that is long enough warms up itself.
private func time(
    _ work: Work, over wanted: Double, secondsPerCall: Double
) throws -> (microseconds: Double, calls: Int) {
    let burst = max(1, Int(wanted / 16 / secondsPerCall))
    if secondsPerCall < wanted / 4 { _ = try seconds(of: work, calls: burst) }
    var (calls, elapsed) = (0, 0.0)
    while elapsed < wanted {
        elapsed += try seconds(of: work, calls: burst)
        calls += burst
    }
    return (elapsed / Double(calls) * 1e6, calls)
}
