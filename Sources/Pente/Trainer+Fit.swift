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
    /// Of a ``DataSource``: the rows among which they are shuffled, of which memory holds twice as many; 0: as many as
    /// take 8 MB. Rows come to a window in blocks, 32 of which fill it, from all over a source whose number of rows is
    /// known. One that holds all rows shuffles as if they were in memory.
    public var shuffleWindow = 0
    /// Where the run is kept, so that a later one can go on with it; nil: nowhere.
    public var checkpoint: Checkpoint?

    /// They are checked when a fit begins: what is out of range is `.invalidArgument` there.
    public init(
        epochs: Int = 1, batchSize: Int = 32, shuffle: Bool = true, seed: UInt64 = 0, firstEpoch: Int = 0,
        patience: Int = 0, minDelta: Double = 0, shuffleWindow: Int = 0, checkpoint: Checkpoint? = nil
    ) {
        self.epochs = epochs
        self.batchSize = batchSize
        self.shuffle = shuffle
        self.seed = seed
        self.firstEpoch = firstEpoch
        self.patience = patience
        self.minDelta = minDelta
        self.shuffleWindow = shuffleWindow
        self.checkpoint = checkpoint
    }

    func validate(hasValidation: Bool) throws(PenteError) {
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
        if shuffleWindow < 0 {
            throw PenteError(.invalidArgument, "shuffle_window is \(shuffleWindow); it must not be negative")
        }
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

/// How far a run is, some ten times a second.
public struct Progress: Sendable {
    /// The one under way: from 1, or `firstEpoch` + 1.
    public let epoch: Int
    /// The last one's number, if all that were asked for are done.
    public let epochs: Int
    /// How many rows of the epoch are done.
    public let row: Int
    /// How many there are; nil: that is not known before the first epoch's end.
    public let rows: Int?
    /// Of the epoch so far, as ``Epoch/trainingLoss``.
    public let loss: Double
    /// Of this run so far.
    public let rowsPerSecond: Double
    /// Until all epochs are done, at that rate; NaN while `rows` is not known.
    public let secondsLeft: Double
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
    /// Of the optimizer's group 0, that each epoch was trained with.
    public internal(set) var learningRates: [Double] = []
    /// Of this run, from 1: the last epoch with a better validation loss; 0 without one that is finite.
    public internal(set) var bestEpoch = 0
    /// Why there were no more.
    public internal(set) var stopReason = StopReason.epochs
}

/// Adds up numbers of several fits, as `fit` says.
public typealias Reduce = (_ sums: inout [Double]) throws(PenteError) -> Void

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
    ///   - onProgress: called some ten times a second, between steps.
    ///   - shouldStop: asked some ten times a second, between blocks of rows; true stops before the next update, and
    ///     the steps that are done are kept. Steps of this optimizer are `.busy` meanwhile; leave the layer be.
    ///   - reduce: with it the fit is one of several, each in a process of its own with rows of its own, that train one
    ///     model. It is called once a step with an array of one length in all of them, and must give each of them the sum
    ///     of all, element by element: what MPI calls an allreduce. The fits begin with the same parameters, optimizers
    ///     and options (the batch size is that of one of them), and end with the same; a process that has no more rows
    ///     waits for the others in each epoch. Checkpoints are written at an epoch's end alone.
    /// - Returns: the losses of each epoch, and why the run ended.
    /// - Throws: `.notFinite` if a step's loss is NaN or infinite, or what is wrong with an argument. Parameters,
    ///   gradients and momentum are then as they were before the call.
    @discardableResult
    public func fit(
        _ x: Matrix<Element>, _ y: Matrix<Element>, sampleWeight: Matrix<Element>? = nil,
        validation: (x: Matrix<Element>, y: Matrix<Element>)? = nil, options: FitOptions = FitOptions(),
        onEpoch: (Epoch) -> Bool = { _ in false }, onProgress: (Progress) -> Void = { _ in },
        shouldStop: () -> Bool = { false }, reduce: Reduce? = nil
    ) throws(PenteError) -> FitReport {
        try withExamples(x, y, sampleWeight) { (examples) throws(PenteError) -> FitReport in
            try fit(
                .examples(examples), validation: validation, options: options, onEpoch: onEpoch, onProgress: onProgress,
                shouldStop: shouldStop, reduce: reduce)
        }
    }

    /// The same with rows that are not in memory: a source, of which there are so many at a time as `options.batchSize` and
    /// `options.shuffleWindow` say, is read on a thread of its own, ahead of the arithmetic.
    ///
    /// The bits are those of the same rows in memory if they come in the same order: in their own, or shuffled within
    /// one window that holds all of them. Throws what reading throws, too; a number that is not finite is named with its
    /// file and row.
    @discardableResult
    public func fit(
        _ source: DataSource<Element>, validation: (x: Matrix<Element>, y: Matrix<Element>)? = nil,
        options: FitOptions = FitOptions(), onEpoch: (Epoch) -> Bool = { _ in false },
        onProgress: (Progress) -> Void = { _ in }, shouldStop: () -> Bool = { false }, reduce: Reduce? = nil
    ) throws(PenteError) -> FitReport {
        try fit(
            .source(source), validation: validation, options: options, onEpoch: onEpoch, onProgress: onProgress,
            shouldStop: shouldStop, reduce: reduce)
    }

    private func fit(
        _ data: FitData<Element>, validation: (x: Matrix<Element>, y: Matrix<Element>)?, options: FitOptions,
        onEpoch: (Epoch) -> Bool, onProgress: (Progress) -> Void, shouldStop: () -> Bool, reduce: Reduce?
    ) throws(PenteError) -> FitReport {
        // None of them outlives the call.
        try withoutActuallyEscaping(onEpoch) { (onEpoch) throws(PenteError) in
            try withoutActuallyEscaping(onProgress) { (onProgress) throws(PenteError) in
                try withoutActuallyEscaping(shouldStop) { (shouldStop) throws(PenteError) in
                    try fit(data, validation, options, Closures(onEpoch, onProgress, shouldStop, reduce))
                }
            }
        }
    }

    private func fit(
        _ data: FitData<Element>, _ validation: (x: Matrix<Element>, y: Matrix<Element>)?, _ options: FitOptions,
        _ observer: FitObserver
    ) throws(PenteError) -> FitReport {
        func run(
            _ validation: Examples<Element>?, _ path: UnsafePointer<CChar>?
        ) throws(PenteError) -> FitReport {
            let run = try fit(data, validation: validation, options: options, checkpointPath: path, observer)
            return FitReport(run, hasValidation: validation != nil)
        }
        func run(_ validation: Examples<Element>?) throws(PenteError) -> FitReport {
            guard let checkpoint = options.checkpoint else { return try run(validation, nil) }
            return try checkpoint.path.withPath { (path) throws(PenteError) in try run(validation, path) }
        }
        guard let validation else { return try run(nil) }
        return try withExamples(validation.x, validation.y, nil) { (validation) throws(PenteError) in
            try run(validation)
        }
    }
}

private final class Closures: FitObserver {
    private let epochBody: (Epoch) -> Bool
    private let progressBody: (Progress) -> Void
    private let stopBody: () -> Bool
    private let reduceBody: Reduce?

    init(
        _ onEpoch: @escaping (Epoch) -> Bool, _ onProgress: @escaping (Progress) -> Void,
        _ shouldStop: @escaping () -> Bool, _ reduce: Reduce?
    ) {
        epochBody = onEpoch
        progressBody = onProgress
        stopBody = shouldStop
        reduceBody = reduce
        super.init(isOneOfSeveral: reduce != nil)
    }

    override func onEpoch(_ epoch: Epoch) throws(PenteError) -> Bool { epochBody(epoch) }
    override func onProgress(_ progress: Progress) { progressBody(progress) }
    override func shouldStop() -> Bool { stopBody() }

    override func reduce(_ sums: UnsafeMutableBufferPointer<Double>) throws(PenteError) {
        var array = Array(sums)
        try reduceBody!(&array)
        if array.count != sums.count {
            throw PenteError(.invalidArgument, "reduce was given \(sums.count) numbers, but left \(array.count)")
        }
        for i in 0..<sums.count { sums[i] = array[i] }
    }
}
