import PenteKernels
import PenteSystem

/// Where a run is kept: a safetensors file of the layer and its optimizer, as `Layer.save` writes it, with how far the run is.
/// It is written when the run ends, too, and takes the place of the one before only when it is on the disk.
public struct Checkpoint: Sendable {
    /// As ``Layer/save(to:sgd:)`` takes it.
    public var path: String
    /// After every so many epochs; 0: not after an epoch as such.
    public var epochs: Int
    /// As soon as so many seconds have gone by since the last one, between two steps; 0: not by the time.
    public var seconds: Double
    /// Goes on with the run that the file holds, if there is a file: to the same bits as if it had never been interrupted,
    /// with the same data and options (but for `epochs`, `patience` and `minDelta`). The report is of all of it then.
    public var resumes: Bool

    /// They are checked when a fit begins: what is out of range is `.invalidArgument` there.
    public init(path: String, epochs: Int = 1, seconds: Double = 0, resumes: Bool = false) {
        self.path = path
        self.epochs = epochs
        self.seconds = seconds
        self.resumes = resumes
    }

    func validate() throws(PenteError) {
        if epochs < 0 {
            throw PenteError(.invalidArgument, "checkpoint_epochs is \(epochs); it must not be negative")
        }
        try requireNotNegative(seconds, "checkpoint_seconds")
    }
}

/// A run as its file describes it: where it is, and what must be as it was for it to go on.
struct SavedRun {
    var epochs = 0
    var row = 0
    var bestEpoch = 0
    var hasBest = false
    var batchSize = 0
    var isShuffled = false
    var seed = 0
    var firstEpoch = 0
    var shuffleWindow = 0
    /// How many numbers the caller has in it.
    var scheduleCount = 0
    /// Of the data; 0: unknown.
    var rows = 0

    init<Element>(_ options: FitOptions, _ data: FitData<Element>, scheduleCount: Int) {
        self.scheduleCount = scheduleCount
        batchSize = options.batchSize
        isShuffled = options.shuffle
        seed = Int(truncatingIfNeeded: options.seed & 0xffff_ffff)
        firstEpoch = options.firstEpoch
        switch data {
        case .examples(let examples): rows = examples.count
        case .source(let source):
            rows = source.rows ?? 0
            shuffleWindow = options.shuffleWindow
        }
    }

    func write(to json: inout JSONWriter) {
        json.raw("{\"epochs\":\(epochs),\"row\":\(row),\"best_epoch\":\(bestEpoch),\"batch_size\":\(batchSize)")
        json.raw(",\"seed\":\(seed),\"first_epoch\":\(firstEpoch),\"shuffle_window\":\(shuffleWindow)")
        json.raw(",\"schedule_count\":\(scheduleCount)")
        json.raw(",\"rows\":\(rows),\"shuffle\":")
        json.raw(isShuffled ? "true" : "false")
        json.raw(",\"has_best\":")
        json.raw(hasBest ? "true}" : "false}")
    }

    init(from json: inout JSONReader) throws(PenteError) {
        try json.beginObject()
        while let key = try json.nextKey() {
            if key == "epochs" {
                epochs = try json.integer()
            } else if key == "row" {
                row = try json.integer()
            } else if key == "best_epoch" {
                bestEpoch = try json.integer()
            } else if key == "batch_size" {
                batchSize = try json.integer()
            } else if key == "seed" {
                seed = try json.integer()
            } else if key == "first_epoch" {
                firstEpoch = try json.integer()
            } else if key == "shuffle_window" {
                shuffleWindow = try json.integer()
            } else if key == "schedule_count" {
                scheduleCount = try json.integer()
            } else if key == "rows" {
                rows = try json.integer()
            } else if key == "shuffle" {
                isShuffled = try json.bool()
            } else if key == "has_best" {
                hasBest = try json.bool()
            } else {
                throw json.fail("the run has an unknown entry")
            }
        }
        if min(epochs, row, bestEpoch, firstEpoch) < 0 || bestEpoch > epochs || rows > 0 && row > rows {
            throw json.fail("there is an impossible number")
        }
    }

    /// Throws unless a run with the options of `other` would have gone this way.
    func requireSameWay(as other: SavedRun) throws(PenteError) {
        func require(_ own: Int, _ other: Int, _ name: StaticString) throws(PenteError) {
            if own != other {
                throw PenteError(.invalidArgument, "its run had a \(name) of \(own), but now it is \(other)")
            }
        }
        try require(batchSize, other.batchSize, "batch_size")
        try require(isShuffled ? 1 : 0, other.isShuffled ? 1 : 0, "shuffle")
        try require(seed, other.seed, "seed")
        try require(firstEpoch, other.firstEpoch, "first_epoch")
        try require(shuffleWindow, other.shuffleWindow, "shuffle_window")
        try require(scheduleCount, other.scheduleCount, "schedule_count")
        try require(rows, other.rows, "number of rows")
    }
}

/// The checkpoint of a fit.
final class CheckpointFile<Element: Scalar> {
    private let path: UnsafePointer<CChar>
    private let checkpoint: Checkpoint
    private let schedule: UnsafeMutableBufferPointer<Double>?
    private let trainer: Trainer<Element>
    private let way: SavedRun
    private var lastSave = pente_monotonic_seconds()
    /// The epochs and rows that the file holds; −1: none of this run.
    private var saved = (epochs: -1, row: 0)

    private init(
        _ path: UnsafePointer<CChar>, _ checkpoint: Checkpoint, _ schedule: UnsafeMutableBufferPointer<Double>?,
        _ trainer: Trainer<Element>, _ way: SavedRun
    ) {
        self.path = path
        self.checkpoint = checkpoint
        self.schedule = schedule
        self.trainer = trainer
        self.way = way
    }

    static func make(
        _ path: UnsafePointer<CChar>, _ checkpoint: Checkpoint, _ schedule: UnsafeMutableBufferPointer<Double>?,
        _ trainer: Trainer<Element>, _ options: FitOptions, _ data: FitData<Element>
    ) throws(PenteError) -> CheckpointFile {
        try checkpoint.validate()
        try trainer.layer.requireSameParameters(trainer.sgd)
        return CheckpointFile(
            path, checkpoint, schedule, trainer, SavedRun(options, data, scheduleCount: schedule?.count ?? 0))
    }

    /// Between two steps, or at an epoch's end.
    func saveIfDue(_ run: FitRun, _ best: borrowing Snapshot<Element>, isEpochEnd: Bool = false) throws(PenteError) {
        let isEpochs = isEpochEnd && checkpoint.epochs > 0 && run.epochs % checkpoint.epochs == 0
        let isTime = checkpoint.seconds > 0 && pente_monotonic_seconds() - lastSave >= checkpoint.seconds
        if isEpochs || isTime { try save(run, best) }
    }

    func saveLast(_ run: FitRun, _ best: borrowing Snapshot<Element>) throws(PenteError) {
        if saved != (run.epochs, run.row) { try save(run, best) }
    }

    private func save(_ run: FitRun, _ best: borrowing Snapshot<Element>) throws(PenteError) {
        var description = way
        description.epochs = run.epochs
        description.row = run.row
        description.bestEpoch = run.bestEpoch
        description.hasBest = !best.states.isEmpty && run.bestEpoch > 0
        let state = try Buffer<Double>(count: 3)
        (state.base[0], state.base[1], state.base[2]) = (run.total, run.weight, run.bestLoss)
        try trainer.layer.save(
            to: path, sgd: trainer.sgd, run: description, tensors: { tensors(description, run, best, state.base) })
        saved = (run.epochs, run.row)
        lastSave = pente_monotonic_seconds()
    }

    /// What a file has of a run beside its description.
    private func tensors(
        _ description: SavedRun, _ run: FitRun, _ best: borrowing Snapshot<Element>,
        _ state: UnsafeMutablePointer<Double>
    ) -> [NamedTensor] {
        var tensors = [NamedTensor("fit.state", rank: 1, rows: 1, columns: 3, state)]
        if description.epochs > 0 {
            tensors.append(NamedTensor("fit.losses", rank: 2, rows: description.epochs, columns: 3, run.lossMemory))
        }
        if let schedule, schedule.count > 0 {
            tensors.append(
                NamedTensor("fit.schedule", rank: 1, rows: 1, columns: schedule.count, schedule.baseAddress!))
        }
        if description.hasBest {
            var offset = 0
            for state in best.states {
                let name = Message("fit.best.\(trainer.layer.name(of: state))").text
                tensors.append(NamedTensor(state.parameter, name: name, memory: best.elements.base + offset))
                offset += state.parameter.count
            }
        }
        return tensors
    }

    /// Goes on with the file's run, if that is wanted and there is a file. On failure nothing has changed but `run`.
    func resume(_ run: FitRun, _ best: borrowing Snapshot<Element>) throws(PenteError) {
        if !checkpoint.resumes { return }
        let state = try Buffer<Double>(count: 3)
        do throws(PenteError) {
            var description: SavedRun?
            try trainer.layer.loadParameters(from: path, sgd: trainer.sgd) { (saved) throws(PenteError) in
                try saved.requireSameWay(as: way)
                if saved.bestEpoch > 0 && saved.hasBest == best.states.isEmpty {
                    throw PenteError(
                        .invalidArgument,
                        "its run had \(saved.hasBest ? "a" : "no") patience, but now there is \(saved.hasBest ? "none" : "one")"
                    )
                }
                try run.setEpochs(saved.epochs)
                description = saved
                return tensors(saved, run, best, state.base)
            }
            let saved = description!
            run.row = saved.row
            run.bestEpoch = saved.bestEpoch
            (run.total, run.weight, run.bestLoss) = (state.base[0], state.base[1], state.base[2])
            self.saved = (run.epochs, run.row)
        } catch {
            if error.code == .fileError && error.systemError == ENOENT { return }
            throw error
        }
    }
}
