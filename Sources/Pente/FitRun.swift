import PenteKernels
import PenteSystem

/// How far a run is, and what it has come to.
package final class FitRun {
    /// Done.
    package fileprivate(set) var epochs = 0
    package internal(set) var bestEpoch = 0
    package internal(set) var stopReason = StopReason.epochs
    var bestLoss = Double.infinity
    /// Of each epoch the training's and the validation's, and the learning rate.
    private var losses = Buffer<Double>()

    // Of the epoch under way.
    var row = 0
    /// The batches' losses, times their rows or weights if the loss is a mean over these.
    var total = 0.0
    var weight = 0.0
    /// Of this process, all epochs.
    var rowsSeen = 0

    init() {}

    /// Of the epoch so far.
    func loss(isMean: Bool) -> Double { isMean ? total / weight : total }

    func endEpoch(_ trainingLoss: Double, _ validationLoss: Double, _ learningRate: Double) throws(PenteError) {
        if 3 * epochs == losses.count {
            let larger = try Buffer<Double>(count: max(96, 2 * losses.count))
            larger.base.copy(losses.base, count: losses.count)
            losses = larger
        }
        losses.base[3 * epochs] = trainingLoss
        losses.base[3 * epochs + 1] = validationLoss
        losses.base[3 * epochs + 2] = learningRate
        epochs += 1
        (row, total, weight) = (0, 0, 0)
    }

    package func trainingLoss(_ epoch: Int) -> Double { losses.base[3 * epoch] }
    package func validationLoss(_ epoch: Int) -> Double { losses.base[3 * epoch + 1] }
    package func learningRate(_ epoch: Int) -> Double { losses.base[3 * epoch + 2] }

    /// The losses' place in memory, for a file.
    var lossMemory: UnsafeMutablePointer<Double> { losses.base }

    /// Makes room for the losses of so many epochs, which are done then.
    func setEpochs(_ epochs: Int) throws(PenteError) {
        losses = try Buffer(count: max(96, 3 * epochs))
        self.epochs = epochs
    }
}

extension FitReport {
    init(_ run: FitRun, hasValidation: Bool) {
        self.init()
        epochs = run.epochs
        bestEpoch = run.bestEpoch
        stopReason = run.stopReason
        trainingLosses = (0..<epochs).map { run.trainingLoss($0) }
        learningRates = (0..<epochs).map { run.learningRate($0) }
        if hasValidation { validationLosses = (0..<epochs).map { run.validationLoss($0) } }
    }
}

/// When to ask whether to stop, and to tell of progress: at most ten times a second, and after some work, so that the clock
/// costs nothing.
struct RunClock {
    private var work = 0
    private let start = pente_monotonic_seconds()
    private var last: Double
    private var hasTicked = false

    init() { last = start }

    /// `more` is the work since the last time; before an epoch, 0.
    mutating func isDue(after more: Int) -> Bool {
        work &+= more
        if more > 0 && work < 1 << 20 { return false }
        work = 0
        let now = pente_monotonic_seconds()
        if now - last < 0.1 { return false }
        last = now
        hasTicked = true
        return true
    }

    /// Whether it has been due since this was asked last.
    mutating func takeTick() -> Bool {
        defer { hasTicked = false }
        return hasTicked
    }

    /// Of the epoch under way in `run`, of which so many rows are known.
    func progress(_ run: FitRun, rows: Int?, _ options: FitOptions, isMean: Bool) -> Progress {
        let rate = Double(run.rowsSeen) / (last - start)
        let rowsLeft = rows.map { Double(options.epochs - run.epochs) * Double($0) - Double(run.row) }
        return Progress(
            epoch: options.firstEpoch + run.epochs + 1, epochs: options.firstEpoch + options.epochs, row: run.row,
            rows: rows, loss: run.loss(isMean: isMean), rowsPerSecond: rate, secondsLeft: (rowsLeft ?? .nan) / rate)
    }
}

/// An optimizer's parameters at one moment; as a whole with their gradients and momentum.
struct Snapshot<Element: Scalar>: ~Copyable {
    let states: [SGD<Element>.State]
    let elements: Buffer<Element>
    private let isWhole: Bool

    init(_ states: [SGD<Element>.State], isWhole: Bool) throws(PenteError) {
        self.states = states
        self.isWhole = isWhole
        let count = states.reduce(0) { $0 + $1.parameter.count } * (isWhole ? 3 : 1)
        elements = count > 0 ? try Buffer(count: count) : Buffer()
        save()
    }

    func save() { transfer(isBack: false) }

    func restore() { transfer(isBack: true) }

    @inline(never)
    private func transfer(isBack: Bool) {
        func copy(_ live: UnsafeMutablePointer<Element>, _ kept: UnsafeMutablePointer<Element>, _ count: Int) {
            if isBack { live.copy(kept, count: count) } else { kept.copy(live, count: count) }
        }
        var kept = elements.base
        for state in states {
            let count = state.parameter.count
            copy(state.parameter.values, kept, count)
            kept += count
            guard isWhole else { continue }
            copy(state.parameter.gradients, kept, count)
            if !state.buffer.isEmpty { copy(state.buffer.base, kept + count, count) }
            kept += 2 * count
        }
    }
}
