import PenteKernels
import PenteSystem

/// A trainer's rows on several threads, to the bits of one.
///
/// One thread adds each block's sums to those of the batch in the order of the blocks. So do several: groups of blocks
/// are handed out in order, the sums of each group go to a log, and whoever ends a group adds up the logs whose turn it
/// is: the same additions in the same order. Other threads go on meanwhile, as far as there are logs.
final class ParallelStep<Element: Scalar>: ParallelWork {
    enum Outcome {
        /// The sum of the squares.
        case done(Double)
        case stopped
        /// One thread has to do it, from the start.
        case left
    }

    /// A group of blocks of rows whose sums are not added up yet.
    private struct Group: BitwiseCopyable {
        var log: GradientLog<Element>
        /// The squares of each of the loss's blocks.
        var squares: UnsafeMutablePointer<CompensatedSum>
        var isComputed = false
    }

    private let layer: Layer<Element>
    // What the threads work in, and what they work on.
    private var numbers = Buffer<Element>()
    private var squares = Buffer<CompensatedSum>()
    private var groups = Buffer<Group>()
    private var plan: ParallelPlan
    private var examples: Examples<Element>
    private var scale: Element?
    private var wide: UnsafeMutablePointer<Double>?
    private var corrections: UnsafeMutablePointer<Element>?
    // Under the pool's lock, but for the total, which is whoever's adds up.
    private var started = 0
    private var added = 0
    private var isAdding = false
    private var isStopped = false
    private var hasFailed = false
    private var total = CompensatedSum()

    init(_ layer: Layer<Element>, _ plan: ParallelPlan, _ examples: Examples<Element>) {
        self.layer = layer
        self.plan = plan
        self.examples = examples
    }

    func run(
        _ examples: Examples<Element>, _ plan: ParallelPlan, scale: Element?, wide: UnsafeMutablePointer<Double>?,
        corrections: UnsafeMutablePointer<Element>, shouldStop: (_ work: Int) -> Bool
    ) -> Outcome {
        self.plan = plan
        do throws(PenteError) { try reserve() } catch { return .left }
        self.examples = examples
        self.scale = scale
        self.wide = wide
        self.corrections = corrections
        (started, added, total) = (0, 0, CompensatedSum())
        (isAdding, isStopped, hasFailed) = (false, false, false)
        for i in 0..<plan.logs { groups.base[i].isComputed = false }

        let generation = Pool.generation
        guard Pool.take(threads: plan.threads, work: plan.work) > 1 else { return .left }
        Pool.begin(self)
        while let group = start() {
            compute(group, thread: 0)
            end(group)
            if shouldStop(plan.groupRows &* plan.threads &* (layer.trainedCount &+ examples.y.columns)) { stop() }
            // In a child of fork(), which the user has called meanwhile, the others are not there.
            if Pool.generation != generation { return startOver() }
        }
        Pool.end()
        return hasFailed ? startOver() : isStopped ? .stopped : .done(total.value)
    }

    private func startOver() -> Outcome {
        if let wide {
            memset(wide, 0, layer.trainedCount &* MemoryLayout<Double>.stride)
            memset(corrections!, 0, layer.trainedCount &* MemoryLayout<Element>.stride)
        }
        return .left
    }

    private func reserve() throws(PenteError) {
        try numbers.reserve(rows: 1, columns: plan.threads &* plan.perThread &+ plan.logs &* plan.perLog)
        let perGroup = plan.lossBlocks(plan.groupRows)
        try squares.reserve(rows: plan.logs, columns: perGroup)
        try groups.reserve(rows: 1, columns: plan.logs)
        let logs = numbers.base + plan.threads &* plan.perThread
        for i in 0..<plan.logs {
            groups.base[i] = Group(
                log: GradientLog(logs + i &* plan.perLog), squares: squares.base + i &* perGroup)
        }
    }

    override func perform(_ thread: Int) {
        while let group = start() {
            compute(group, thread: thread)
            end(group)
        }
    }

    /// The next group, once there is a log for it; nil if there is none, or no need of it.
    private func start() -> Int? {
        Pool.lock()
        defer { Pool.unlock() }
        while !isStopped && started < plan.groupCount && started == added + plan.logs { Pool.awaitChange() }
        if isStopped || started == plan.groupCount { return nil }
        started += 1
        return started - 1
    }

    private func fail() {
        Pool.lock()
        hasFailed = true
        Pool.unlock()
    }

    private func stop() {
        Pool.lock()
        isStopped = true
        Pool.tellChange()
        Pool.unlock()
    }

    /// Adds up all groups whose turn it is, unless another thread is at it.
    private func end(_ group: Int) {
        Pool.lock()
        groups.base[group % plan.logs].isComputed = true
        if !isAdding {
            isAdding = true
            while added < started, groups.base[added % plan.logs].isComputed {
                Pool.unlock()
                add(added)
                Pool.lock()
                groups.base[added % plan.logs].isComputed = false
                added += 1
                Pool.tellChange()
            }
            isAdding = false
        }
        Pool.unlock()
    }

    private func add(_ number: Int) {
        let group = groups.base[number % plan.logs]
        let rows = min(plan.groupRows, examples.count - number * plan.groupRows)
        for i in 0..<plan.lossBlocks(rows) { total.addByCall(group.squares[i].value) }
        if let wide { group.log.add(to: wide, corrections: corrections!) }
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    private func compute(_ number: Int, thread: Int) {
        let group = groups.base + number % plan.logs
        group.pointee.squares.update(repeating: CompensatedSum(), count: plan.lossBlocks(plan.groupRows))
        var log = group.pointee.log
        log.clear()
        withUnsafeMutablePointer(to: &log) {
            compute(number, numbers.base + thread * plan.perThread, squares: group.pointee.squares, log: $0)
        }
        group.pointee.log = log
    }

    private func compute(
        _ number: Int, _ memory: UnsafeMutablePointer<Element>, squares: UnsafeMutablePointer<CompensatedSum>,
        log: UnsafeMutablePointer<GradientLog<Element>>
    ) {
        var squares = squares
        var first = number * plan.groupRows
        let end = min(first + plan.groupRows, examples.count)
        while first < end {
            let rows = examples.rows(first, min(plan.stepRows, end - first))
            let blockRows = min(plan.blockRows, rows.count)
            let y = MutableMatrixView(memory + plan.output, rows: blockRows, columns: rows.y.columns)
            let pass = StepPass(
                x: rows.x, target: rows.y, sampleWeight: rows.sampleWeight, y: y,
                gradient: scale == nil ? nil : memory + plan.gradPrediction, scale: scale ?? 0, total: squares,
                totalStep: 1, workspace: Workspace(rows: memory + plan.workspace, scratch: memory),
                gradients: GradientBlock(partial: memory, wide: nil, log: log))
            // No layer that may fail comes here; if one did, one thread would meet the error again.
            do throws(PenteError) { try layer.computeStep(pass) } catch { fail() }
            squares += plan.lossBlocks(rows.count)
            first += rows.count
        }
    }
}

/// Who does what, and where: nothing of it is seen in the bits. Counts are of numbers.
struct ParallelPlan {
    /// In multiply-adds.
    let work: Int
    /// What a pass takes, what a layer is handed at once, and what goes to one log.
    let blockRows: Int
    let stepRows: Int
    let groupRows: Int
    let groupCount: Int
    let threads: Int
    let logs: Int
    let perLog: Int
    /// A thread's memory: scratch, and from these places on the other parts.
    let workspace: Int
    let output: Int
    let gradPrediction: Int
    let perThread: Int

    /// Work worth sharing, in multiply-adds: some 20 microseconds.
    static var leastWork: Int { 1 << 19 }

    /// The multiply-adds of a forward pass, with some for what else a row takes; 10¹⁸ stand for any more.
    static func work<Element>(_ layer: Layer<Element>, _ x: MatrixView<Element>) -> Int {
        Int(min(Double(x.rows) * Double(layer.trainedCount + x.columns + 16), 1e18))
    }

    /// A log should stay in the second-level cache, if a block's can.
    static var logSize: Int { 1 << 18 }

    /// nil: there is no such memory. `logCount`: the numbers of `logSize`, by which alone the types differ here.
    init?<Element>(
        _ layer: Layer<Element>, _ examples: Examples<Element>, work: Int, hasGradients: Bool, threads most: Int,
        logCount: Int
    ) {
        let outputs = examples.y.columns
        self.work = work
        blockRows = layer.rowsPerBlock

        let blocks = (examples.count - 1) / blockRows + 1
        let perBlock = hasGradients ? layer.logCount(rows: blockRows) : 0
        let fitting = logCount / max(perBlock, 1)
        let groupBlocks = max(1, min(fitting, blocks / (16 * most)))
        groupRows = groupBlocks * blockRows
        stepRows = min(layer.rowsPerStep, groupRows)
        groupCount = (examples.count - 1) / groupRows + 1
        threads = min(most, groupCount)
        // A thread that has to wait for its processor should keep nobody: up to a megabyte of logs.
        logs = min(groupCount, fitting == 0 ? threads : max(2 * threads, 4 * fitting / groupBlocks))
        perLog = Self.aligned(groupBlocks * perBlock)

        workspace = Self.aligned(layer.scratchCount(rows: blockRows))
        output = workspace + Self.aligned(blockRows * layer.workspacePerRow(columns: examples.x.columns))
        gradPrediction = output + Self.aligned(blockRows * outputs)
        perThread = gradPrediction + (hasGradients ? Self.aligned(blockRows * outputs) : 0)
        if max(perThread, perLog) > 1 << 48 { return nil }
    }

    /// To two cache lines.
    private static func aligned(_ count: Int) -> Int { (count + 31) & ~31 }

    func lossBlocks(_ rows: Int) -> Int { (rows - 1) / SquaredError<Float>.rowsPerBlock + 1 }
}

extension Trainer {
    func inParallel(
        _ examples: Examples<Element>, scale: Element?, wide: UnsafeMutablePointer<Double>?,
        corrections: UnsafeMutablePointer<Element>, shouldStop: (_ work: Int) -> Bool
    ) -> ParallelStep<Element>.Outcome {
        // The sum of a batch of one block is the gradient itself.
        if scale != nil && wide == nil { return .left }
        let work = ParallelPlan.work(layer, examples.x) &* (scale == nil ? 1 : 2)
        if work < ParallelPlan.leastWork || layer.mayFail || examples.count <= layer.rowsPerBlock { return .left }
        let logCount = ParallelPlan.logSize / MemoryLayout<Element>.stride
        guard
            let plan = ParallelPlan(
                layer, examples, work: work, hasGradients: scale != nil, threads: Threads.count, logCount: logCount)
        else { return .left }
        let parallel = self.parallel ?? ParallelStep(layer, plan, examples)
        self.parallel = parallel
        return parallel.run(examples, plan, scale: scale, wide: wide, corrections: corrections, shouldStop: shouldStop)
    }
}
