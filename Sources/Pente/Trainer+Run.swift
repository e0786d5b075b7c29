import PenteKernels

/// What a fit learns from.
package enum FitData<Element: Scalar> {
    case examples(Examples<Element>)
    case source(DataSource<Element>)
}

/// Whom a fit tells how it gets on, and asks.
package class FitObserver {
    /// The fit is one of several, whose sums `reduce` adds up.
    final let isOneOfSeveral: Bool

    package init(isOneOfSeveral: Bool) { self.isOneOfSeveral = isOneOfSeveral }

    /// After each epoch; true: stop.
    package func onEpoch(_ epoch: Epoch) throws(PenteError) -> Bool { fatalError("a fit is observed") }
    /// Some ten times a second.
    package func onProgress(_ progress: Progress) { fatalError("a fit is observed") }
    package func shouldStop() -> Bool { fatalError("a fit is observed") }
    /// Replaces the numbers by the sums of all fits'.
    package func reduce(_ sums: UnsafeMutableBufferPointer<Double>) throws(PenteError) { fatalError("fits add up") }
}

extension Trainer {
    /// `checkpointPath`: that of `options.checkpoint`, in the system's encoding. `schedule`: numbers that it is to have, too.
    package func fit(
        _ data: FitData<Element>, validation: Examples<Element>?, options: FitOptions,
        checkpointPath: UnsafePointer<CChar>?, schedule: UnsafeMutableBufferPointer<Double>? = nil,
        _ observer: FitObserver
    ) throws(PenteError) -> FitRun {
        try options.validate(hasValidation: validation != nil)
        try require(data, isOneOfSeveral: observer.isOneOfSeveral)
        if let validation { try require(validation, "validation_x", "validation_y") }
        let checkpoint = try options.checkpoint.map { (checkpoint) throws(PenteError) in
            try CheckpointFile.make(checkpointPath!, checkpoint, schedule, self, options, data)
        }

        let run = FitRun()
        let start = try Snapshot(sgd.states, isWhole: true)
        let hasStepped = sgd.states.map { $0.hasStepped }
        let stepCount = sgd.stepCount
        let groups = options.checkpoint?.resumes == true ? sgd.groups.map { $0.options } : []
        let best = try Snapshot(options.patience > 0 ? sgd.states : [], isWhole: false)
        do throws(PenteError) {
            try checkpoint?.resume(run, best)
            try self.run(run, data, validation, options, best, checkpoint, observer)
        } catch {
            start.restore()
            sgd.restore(stepCount: stepCount, hasStepped: hasStepped, options: groups)
            throw error
        }
        return run
    }

    private func require(_ data: FitData<Element>, isOneOfSeveral: Bool) throws(PenteError) {
        switch data {
        case .examples(let examples):
            try require(examples)
            // The weights of one of several may all be 0.
            let weight = try mse.sumOfWeights(examples.sampleWeight, rows: examples.count)
            if examples.sampleWeight != nil && !isOneOfSeveral { try mse.requireDivisor(weight, Element.self) }
        case .source(let source):
            if layer.inputs != 0 && source.inputs != layer.inputs {
                throw PenteError(
                    .shapeMismatch, "the source's x has \(source.inputs) columns, but the layer takes \(layer.inputs)")
            }
            let outputs = layer.outputs == 0 ? source.inputs : layer.outputs
            if source.outputs != outputs {
                throw PenteError(
                    .shapeMismatch, "the source's y has \(source.outputs) columns, but the layer gives \(outputs)")
            }
        }
    }

    private func batches(
        of data: FitData<Element>, _ run: FitRun, _ options: FitOptions
    ) throws(PenteError) -> Batches<Element> {
        switch data {
        case .examples(let examples): try Batches(examples, options)
        case .source(let source):
            try Batches(source, options, epoch: options.firstEpoch + run.epochs, row: run.row)
        }
    }

    private func run(
        _ run: FitRun, _ data: FitData<Element>, _ validation: Examples<Element>?, _ options: FitOptions,
        _ best: borrowing Snapshot<Element>, _ checkpoint: CheckpointFile<Element>?, _ observer: FitObserver
    ) throws(PenteError) {
        var clock = RunClock()
        func isToStop(after work: Int) -> Bool { clock.isDue(after: work) && observer.shouldStop() }
        if !isDone(run, options) {
            var batches = try batches(of: data, run, options)
            let others = observer.isOneOfSeveral ? Others(observer, try Buffer(count: sumCount + 2)) : nil
            var isBegun = try batches.skip(
                epochs: options.firstEpoch + run.epochs, rows: run.row, shouldStop: isToStop)
            if !isBegun { run.stopReason = .request }
            while !isDone(run, options) {
                if !isBegun { batches.startEpoch() }
                isBegun = false
                let isWhole = try runEpoch(&batches, run, others, shouldStop: isToStop) {
                    (batches) throws(PenteError) in
                    guard clock.takeTick() else { return }
                    observer.onProgress(clock.progress(run, rows: batches.rows, options, isMean: mse.isMeanOverRows))
                    if others == nil && !batches.isAtEnd { try checkpoint?.saveIfDue(run, best) }
                }
                // Several fits go on to the next epoch together, or none does.
                let mayStop = others == nil ? isToStop : { _ in false }
                guard isWhole, let validationLoss = try validationLoss(validation, shouldStop: mayStop) else {
                    run.stopReason = .request
                    break
                }
                if try endEpoch(run, validationLoss, options, best, observer) { run.stopReason = .callback }
                try checkpoint?.saveIfDue(run, best, isEpochEnd: true)
            }
            // The others do not know of it yet.
            if run.stopReason.isOfOne && run.epochs < options.epochs { try others?.tellOfStop() }
        }
        if !(observer.isOneOfSeveral && run.row > 0) { try checkpoint?.saveLast(run, best) }
        if options.patience > 0 && run.bestEpoch > 0 { best.restore() }
    }

    private func isDone(_ run: FitRun, _ options: FitOptions) -> Bool {
        if run.stopReason != .epochs { return true }
        if options.patience > 0 && run.epochs - run.bestEpoch >= options.patience { run.stopReason = .early }
        return run.stopReason != .epochs || run.epochs >= options.epochs
    }

    /// Returns whether it is to be the last.
    private func endEpoch(
        _ run: FitRun, _ validationLoss: Double, _ options: FitOptions, _ best: borrowing Snapshot<Element>,
        _ observer: FitObserver
    ) throws(PenteError) -> Bool {
        let trainingLoss = run.loss(isMean: mse.isMeanOverRows)
        try run.endEpoch(trainingLoss, validationLoss, sgd.groups[0].options.lr)
        if validationLoss < run.bestLoss - options.minDelta {
            run.bestLoss = validationLoss
            run.bestEpoch = run.epochs
            if options.patience > 0 { best.save() }
        }
        return try observer.onEpoch(
            Epoch(
                epoch: options.firstEpoch + run.epochs, epochs: options.firstEpoch + options.epochs,
                trainingLoss: trainingLoss, validationLoss: validationLoss))
    }

    /// The rest of an epoch that has begun; false if it was stopped.
    private func runEpoch(
        _ batches: inout Batches<Element>, _ run: FitRun, _ others: Others?, shouldStop: (Int) -> Bool,
        afterStep: (borrowing Batches<Element>) throws(PenteError) -> Void
    ) throws(PenteError) -> Bool {
        if let others { return try runEpoch(&batches, run, with: others, shouldStop: shouldStop, afterStep: afterStep) }
        if shouldStop(0) { return false }
        while let batch = try batches.next(shouldStop) {
            let weight = try weight(of: batch, in: batches)
            if weight == 0 {  // nothing to learn from, and a mean over nothing
                if shouldStop(batch.count) { return false }
                run.row = batches.rowsDone
                continue
            }
            if batch.sampleWeight != nil { try mse.requireDivisor(weight, Element.self) }
            var loss: Double?
            do throws(PenteError) {
                loss = try step(batch, rows: weight, shouldStop: shouldStop)
            } catch {
                throw explain(error, batch, batches)
            }
            guard let loss else { return false }
            add(loss, weight, of: batch, batches.rowsDone, to: run)
            try afterStep(batches)
        }
        if batches.isStopped { return false }
        if batches.rows == 0 { throw PenteError(.invalidState, "the source has no rows") }
        try requireWeight(run)
        return true
    }

    /// The same of a fit that is one of several: with each step of theirs, until none of them has rows left.
    private func runEpoch(
        _ batches: inout Batches<Element>, _ run: FitRun, with others: Others, shouldStop: (Int) -> Bool,
        afterStep: (borrowing Batches<Element>) throws(PenteError) -> Void
    ) throws(PenteError) -> Bool {
        try setSums(UnsafeBufferPointer(start: nil, count: 0))
        while true {
            var stops = shouldStop(0)
            let batch = stops ? nil : try batches.next(shouldStop)
            stops = stops || batches.isStopped
            if let batch {
                _ = try weight(of: batch, in: batches)
                do throws(PenteError) {
                    try accumulate(batch)
                } catch {
                    throw explain(error, batch, batches)
                }
            }
            let (isActive, isStopped) = try others.add(self, isActive: batch != nil, stops: stops)
            if isStopped { return false }
            if !isActive { break }
            if others.rows > 0 {
                let weight = others.rows
                let loss = try applySums()
                add(loss, weight, of: batch, batches.rowsDone, to: run)
            } else {
                run.row = batches.rowsDone
            }
            try afterStep(batches)
        }
        try requireWeight(run)
        return true
    }

    private func requireWeight(_ run: FitRun) throws(PenteError) {
        if run.weight == 0 && mse.isMeanOverRows {
            throw PenteError(.invalidArgument, "sample_weight is all zeros, and a mean over nothing has no value")
        }
    }

    private func add(_ loss: Double, _ weight: Double, of batch: Examples<Element>?, _ rowsDone: Int, to run: FitRun) {
        run.total += mse.isMeanOverRows ? loss * weight : loss
        run.weight += weight
        run.row = rowsDone
        run.rowsSeen &+= batch?.count ?? 0
    }

    /// A number of the batch that is not finite explains a loss that is none.
    private func explain(
        _ error: PenteError, _ batch: Examples<Element>, _ batches: borrowing Batches<Element>
    ) -> PenteError {
        guard error.code == .notFinite, let place = batches.placeOfNotFinite(batch) else { return error }
        return PenteError(.notFinite, "\(place), so that the loss is no finite number either")
    }

    /// The sum of its weights; of those in memory it is known that they are right.
    private func weight(
        of batch: Examples<Element>, in batches: borrowing Batches<Element>
    ) throws(PenteError) -> Double {
        do throws(PenteError) {
            return try mse.sumOfWeights(batch.sampleWeight, rows: batch.count)
        } catch {
            guard let weights = batch.sampleWeight else { throw error }
            let row = (0..<batch.count).first { !(weights.base[$0] >= 0 && weights.base[$0].isFinite) } ?? 0
            throw PenteError(
                .invalidArgument,
                "\(batches.place(ofRow: row, of: batch, .sampleWeight)) is \(Double(weights.base[row])); a weight must be finite and not negative"
            )
        }
    }

    /// NaN without a validation set; nil if it was stopped.
    private func validationLoss(
        _ validation: Examples<Element>?, shouldStop: (Int) -> Bool
    ) throws(PenteError) -> Double? {
        guard let validation else { return .nan }
        return try evaluate(validation, shouldStop: shouldStop)
    }
}

extension StopReason {
    /// Of which the other fits do not know by themselves.
    fileprivate var isOfOne: Bool { self == .callback || self == .request }
}

/// The other fits of which one is one: what it tells them, and they it, in each step. Behind the sums come how many have a
/// batch, and how many want to stop.
private final class Others {
    private let observer: FitObserver
    private let numbers: Buffer<Double>
    private var isStopped = false

    init(_ observer: FitObserver, _ numbers: consuming Buffer<Double>) {
        self.observer = observer
        self.numbers = numbers
    }

    private var flags: UnsafeMutablePointer<Double> { numbers.base + numbers.count - 2 }

    /// Of all.
    var rows: Double { numbers.base[numbers.count - 4] }

    /// Adds up what the trainer has accumulated, which is the sums of all then.
    func add<Element>(
        _ trainer: Trainer<Element>, isActive: Bool, stops: Bool
    ) throws(PenteError) -> (isActive: Bool, isStopped: Bool) {
        try trainer.getSums(numbers.base, count: numbers.count - 2)
        try reduce(isActive: isActive, stops: stops)
        isStopped = flags[1] > 0
        try trainer.setSums(UnsafeBufferPointer(start: numbers.base, count: numbers.count - 2))
        return (flags[0] > 0, isStopped)
    }

    func tellOfStop() throws(PenteError) {
        if isStopped { return }
        numbers.zero()
        try reduce(isActive: false, stops: true)
    }

    private func reduce(isActive: Bool, stops: Bool) throws(PenteError) {
        (flags[0], flags[1]) = (isActive ? 1 : 0, stops ? 1 : 0)
        try observer.reduce(UnsafeMutableBufferPointer(start: numbers.base, count: numbers.count))
    }
}
