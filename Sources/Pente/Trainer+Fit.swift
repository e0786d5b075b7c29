import PenteKernels
import PenteSystem

/// How ``Trainer``'s `fit` goes through the data.
public struct FitOptions: Sendable {
    /// How many times this run goes through the data: at least 1.
    public var epochs = 1
    /// Rows a step, at least 1; the last batch of an epoch may be smaller.
    public var batchSize = 32
    /// A new order of the rows for each epoch: torch.randperm's, from one generator.
    public var shuffle = true
    /// Seeds that generator, as torch.manual_seed does.
    public var seed: UInt64 = 0
    /// Epochs that an earlier run has done: this run's numbers and shuffles go on from there, so that a resumed run is as
    /// one that was never interrupted.
    public var firstEpoch = 0
    /// Stop after so many epochs without a better validation loss, and give back the best parameters, however the run
    /// ends; 0: neither.
    public var patience = 0
    /// A validation loss is better if it is lower by more than this.
    public var minDelta = 0.0

    /// They are checked when a fit begins: what is out of range is `.invalidArgument` there.
    public init(
        epochs: Int = 1, batchSize: Int = 32, shuffle: Bool = true, seed: UInt64 = 0, firstEpoch: Int = 0,
        patience: Int = 0, minDelta: Double = 0
    ) {
        self.epochs = epochs
        self.batchSize = batchSize
        self.shuffle = shuffle
        self.seed = seed
        self.firstEpoch = firstEpoch
        self.patience = patience
        self.minDelta = minDelta
    }

    fileprivate func validate(hasValidation: Bool) throws(PenteError) {
        if epochs < 1 { throw PenteError(.invalidArgument, "epochs is \(epochs); it must be at least 1") }
        if batchSize < 1 { throw PenteError(.invalidArgument, "batch_size is \(batchSize); it must be at least 1") }
        if firstEpoch < 0 || firstEpoch > Int.max - epochs {
            throw PenteError(
                .invalidArgument, "first_epoch is \(firstEpoch); it must not be negative, nor beyond counting")
        }
        if patience < 0 { throw PenteError(.invalidArgument, "patience is \(patience); it must not be negative") }
        if patience > 0 && !hasValidation {
            throw PenteError(.invalidArgument, "patience is \(patience), but there is no validation set")
        }
        try requireNotNegative(minDelta, "min_delta")
    }
}

/// What is known at the end of an epoch.
public struct Epoch: Sendable {
    /// From 1, or `firstEpoch` + 1.
    public let epoch: Int
    /// The last one's number, if all that were asked for are done.
    public let epochs: Int
    /// Of the epoch's batches as they were met: their average over rows, or their sum for a loss that does not
    /// divide by rows.
    public let trainingLoss: Double
    /// After the epoch; NaN without a validation set.
    public let validationLoss: Double
}

/// Why a run ended; the raw values are those of C's `pente_stop_reason`.
public enum StopReason: Int32, Sendable {
    /// All epochs are done.
    case epochs = 1
    /// The patience ran out.
    case early = 2
    /// The epoch's callback said stop.
    case callback = 3
    /// `shouldStop` said stop, in the middle of an epoch.
    case request = 4
}

/// What a run did.
public struct FitReport: Sendable {
    /// How many epochs are done in this run.
    public internal(set) var epochs = 0
    /// Of each epoch, as ``Epoch/trainingLoss``.
    public internal(set) var trainingLosses: [Double] = []
    /// Of each epoch, as ``Epoch/validationLoss``; empty without a validation set.
    public internal(set) var validationLosses: [Double] = []
    /// Of this run, from 1: the last epoch with a better validation loss; 0 without one that is finite.
    public internal(set) var bestEpoch = 0
    /// Why there were no more.
    public internal(set) var stopReason = StopReason.epochs
}

extension Trainer {
    /// Trains for some epochs of mini-batches.
    ///
    /// - Parameters:
    ///   - x: q × inputs.
    ///   - y: q × outputs.
    ///   - sampleWeight: q × 1: what each row counts for, finite and not negative.
    ///   - validation: x and y of rows to judge by, not to learn from.
    ///   - options: epochs, batches, shuffles and when to stop.
    ///   - onEpoch: called after each epoch; true stops the run.
    ///   - shouldStop: asked some ten times a second, between blocks of rows; true stops before the next update, and
    ///     the steps that are done are kept. Steps of this optimizer are `.busy` meanwhile; leave the layer be.
    /// - Returns: the losses of each epoch, and why the run ended.
    /// - Throws: `.notFinite` if a step's loss is NaN or infinite, or what is wrong with an argument. Parameters,
    ///   gradients and momentum are then as they were before the call.
    @discardableResult
    public func fit(
        _ x: Matrix<Element>, _ y: Matrix<Element>, sampleWeight: Matrix<Element>? = nil,
        validation: (x: Matrix<Element>, y: Matrix<Element>)? = nil, options: FitOptions = FitOptions(),
        onEpoch: (Epoch) -> Bool = { _ in false }, shouldStop: () -> Bool = { false }
    ) throws(PenteError) -> FitReport {
        var report = FitReport()
        func record(_ epoch: Epoch) throws(PenteError) -> Bool {
            report.trainingLosses.append(epoch.trainingLoss)
            if validation != nil { report.validationLosses.append(epoch.validationLoss) }
            return onEpoch(epoch)
        }
        let summary = try withExamples(x, y, sampleWeight) { (examples) throws(PenteError) -> FitSummary in
            guard let validation else {
                return try fit(examples, validation: nil, options: options, onEpoch: record, shouldStop: shouldStop)
            }
            return try withExamples(validation.x, validation.y, nil) { (validation) throws(PenteError) -> FitSummary in
                try fit(examples, validation: validation, options: options, onEpoch: record, shouldStop: shouldStop)
            }
        }
        report.epochs = summary.epochs
        report.bestEpoch = summary.bestEpoch
        report.stopReason = summary.stopReason
        return report
    }
}

/// A report without its losses, which `onEpoch` has seen.
package struct FitSummary {
    package var epochs = 0
    package var bestEpoch = 0
    package var stopReason = StopReason.epochs
}

extension Trainer {
    package func fit(
        _ examples: Examples<Element>, validation: Examples<Element>?, options: FitOptions,
        onEpoch: (Epoch) throws(PenteError) -> Bool, shouldStop: () -> Bool
    ) throws(PenteError) -> FitSummary {
        try options.validate(hasValidation: validation != nil)
        try require(examples)
        _ = try mse.totalWeight(examples.sampleWeight, rows: examples.count)
        if let validation { try require(validation, "validation_x", "validation_y") }

        var batches = try Batches(examples, options)
        let start = try Snapshot(sgd.states, isWhole: true)
        let hasStepped = sgd.states.map { $0.hasStepped }
        let stepCount = sgd.stepCount
        let best = try Snapshot(options.patience > 0 ? sgd.states : [], isWhole: false)
        var throttle = Throttle()
        do throws(PenteError) {
            return try run(
                &batches, validation: validation, options: options, best: best, onEpoch: onEpoch,
                shouldStop: { work in throttle.isDue(after: work) && shouldStop() })
        } catch {
            start.restore()
            sgd.restore(stepCount: stepCount, hasStepped: hasStepped, options: [])
            throw error
        }
    }

    private func run(
        _ batches: inout Batches<Element>, validation: Examples<Element>?, options: FitOptions,
        best: borrowing Snapshot<Element>, onEpoch: (Epoch) throws(PenteError) -> Bool, shouldStop: (Int) -> Bool
    ) throws(PenteError) -> FitSummary {
        var summary = FitSummary()
        var bestLoss = Double.infinity
        // Shuffles once more for each epoch of an earlier run.
        for _ in 0..<(options.shuffle ? options.firstEpoch : 0) {
            batches.startEpoch()
            if shouldStop(16 * batches.rows) {
                summary.stopReason = .request
                return summary
            }
        }
        while summary.epochs < options.epochs {
            guard !shouldStop(0), let trainingLoss = try runEpoch(&batches, shouldStop: shouldStop),
                let validationLoss = try validationLoss(validation, shouldStop: shouldStop)
            else {
                summary.stopReason = .request
                break
            }
            summary.epochs += 1
            if validationLoss < bestLoss - options.minDelta {
                bestLoss = validationLoss
                summary.bestEpoch = summary.epochs
                if options.patience > 0 { best.save() }
            }
            let epoch = Epoch(
                epoch: options.firstEpoch + summary.epochs, epochs: options.firstEpoch + options.epochs,
                trainingLoss: trainingLoss,
                validationLoss: validationLoss)
            if try onEpoch(epoch) {
                summary.stopReason = .callback
                break
            }
            if options.patience > 0 && summary.epochs - summary.bestEpoch >= options.patience {
                summary.stopReason = .early
                break
            }
        }
        if options.patience > 0 && summary.bestEpoch > 0 { best.restore() }
        return summary
    }

    /// The loss of an epoch; nil if it was stopped.
    private func runEpoch(_ batches: inout Batches<Element>, shouldStop: (Int) -> Bool) throws(PenteError) -> Double? {
        batches.startEpoch()
        var total = 0.0
        var rows = 0.0
        while let batch = batches.next() {
            let weight = try mse.sumOfWeights(batch.sampleWeight, rows: batch.count)
            if weight == 0 {  // nothing to learn from, and a mean over nothing
                if shouldStop(batch.count) { return nil }
                continue
            }
            if batch.sampleWeight != nil { try mse.requireDivisor(weight, Element.self) }
            guard let loss = try step(batch, rows: weight, shouldStop: shouldStop) else { return nil }
            total += mse.isMeanOverRows ? loss * weight : loss
            rows += weight
        }
        return mse.isMeanOverRows ? total / rows : total
    }

    /// NaN without a validation set; nil if it was stopped.
    private func validationLoss(
        _ validation: Examples<Element>?, shouldStop: (Int) -> Bool
    ) throws(PenteError) -> Double? {
        guard let validation else { return .nan }
        return try evaluate(validation, shouldStop: shouldStop)
    }
}

/// When to ask whether to stop: at most ten times a second, and after some work, so that the clock costs nothing.
private struct Throttle {
    private var work = 0
    private var last = pente_monotonic_seconds()

    /// `more` is the work since the last time; before an epoch, 0.
    mutating func isDue(after more: Int) -> Bool {
        work &+= more
        if more > 0 && work < 1 << 20 { return false }
        work = 0
        let now = pente_monotonic_seconds()
        if now - last < 0.1 { return false }
        last = now
        return true
    }
}

/// An optimizer's parameters at one moment; as a whole with their gradients and momentum.
private struct Snapshot<Element: Scalar>: ~Copyable {
    private let states: [SGD<Element>.State]
    private let elements: Buffer<Element>
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
