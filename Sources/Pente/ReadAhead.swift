import PenteKernels
import PenteSystem

/// How a run goes through a source: window after window, each of so many blocks of rows that lie together in it.
struct WindowPlan: BitwiseCopyable {
    let rowsPerBlock: Int
    let blocksPerWindow: Int
    /// Whether the blocks come in another order in each epoch. One that is not full stays the last.
    let isShuffled: Bool
    let seed: UInt64
    /// The first window to be read, how many there are in an epoch, if that is known, and how many epochs in all.
    let epoch: Int
    let window: Int
    let windowsPerEpoch: Int
    let epochs: Int

    var rowsPerWindow: Int { rowsPerBlock * blocksPerWindow }

    /// The epoch and the window in it that come as number `i`.
    func window(_ i: Int) -> (epoch: Int, window: Int) {
        (epoch + (window + i) / windowsPerEpoch, (window + i) % windowsPerEpoch)
    }

    // What is read stays in the caches until it is used, in either case: four windows in order, or two shuffled ones.
    private static var bytesPerWindow: Int { 1 << 20 }
    private static var bytesPerShuffledWindow: Int { 1 << 23 }

    init<Element>(_ source: DataSource<Element>, _ options: FitOptions, epoch: Int, row: Int) {
        let batch = options.batchSize
        let rows = source.rows ?? Int.max
        let bytesPerRow = source.elementsPerRow * MemoryLayout<Element>.size
        /// A whole number of batches, so that none comes from two windows.
        func batches(upTo rows: Int) -> Int { max(rows / batch, 1) * batch }
        var window = batches(upTo: Self.bytesPerWindow / bytesPerRow)
        var block = window
        if options.shuffle {
            let wanted = options.shuffleWindow > 0 ? options.shuffleWindow : Self.bytesPerShuffledWindow / bytesPerRow
            window = batches(upTo: wanted)
            block = source.rows == nil ? window : batches(upTo: window / 32)
        }
        if window >= rows { (window, block) = (rows, rows) }
        rowsPerBlock = block
        blocksPerWindow = window / block
        isShuffled = options.shuffle && source.rows != nil && rowsPerBlock * blocksPerWindow < rows
        seed = options.seed
        epochs = options.firstEpoch + options.epochs
        windowsPerEpoch = (rows - 1) / (rowsPerBlock * blocksPerWindow) + 1
        if source.rows != nil {
            self.epoch = row < rows ? epoch : epoch + 1
            self.window = row < rows ? row / (rowsPerBlock * blocksPerWindow) : 0
        } else {  // what cannot be skipped is read, unless there are no draws to be made for it
            self.epoch = options.shuffle ? 0 : epoch
            self.window = 0
        }
    }

    /// The blocks' order in an epoch does not depend on how many draws came before.
    func order(_ blocks: borrowing RowOrder, inEpoch epoch: Int) {
        var generator = MersenneTwister(seed: seed &+ 0x9e37_79b9 &* UInt64(truncatingIfNeeded: epoch &+ 1))
        blocks.shuffle(&generator)
    }
}

/// Work on a thread of its own.
class BackgroundWork {
    private final var thread: pthread_t = 0

    final var isRunning: Bool { thread != 0 }

    /// Whether there is a thread to be had. Whoever starts it ends it, and calls `join`, before the object goes.
    @inline(never)
    final func start() {
        let address = Int64(Int(bitPattern: Unmanaged.passUnretained(self).toOpaque()))
        thread = pente_start_worker(address, 8 << 20) { address in
            Unmanaged<BackgroundWork>.fromOpaque(address!)._withUnsafeGuaranteedRef { $0.run() }
            return nil
        }
    }

    final func join() {
        pente_join_worker(thread)
        thread = 0
    }

    func run() { fatalError("work is done") }
}

/// Reads a source's windows ahead, on a thread of its own, while the arithmetic goes on with those that have been read. A
/// window that has been taken is there until the next one is. If there is no thread, as in a child of fork(), windows are
/// read when they are taken.
final class ReadAhead<Element: Scalar>: BackgroundWork {
    private struct Window: BitwiseCopyable {
        var count: Int
        var endsEpoch: Bool
    }

    private let source: DataSource<Element>
    private let memory: Buffer<Element>
    private let slotCount: Int
    private let windows: Buffer<Window>
    /// Where in the source the blocks of each slot begin.
    private let starts: Buffer<Int>
    /// Of a `pente_meeting`.
    private let meetingMemory: Buffer<UInt64>
    private let generation: Int

    private let plan: WindowPlan

    // The reader's.
    /// In the epoch's order, if that is not the source's.
    private let blocks: RowOrder
    private var orderedEpoch = -1
    /// Where a source that has no known end is.
    private var position = 0
    private var epochsRead = 0

    // Under the lock.
    /// All that says which window of a known number comes next: a fork may come between any two changes.
    private var readCount = 0
    private var takenCount = 0
    private var failure: PenteError?
    private var isEnding = false

    static func make(_ source: DataSource<Element>, _ plan: WindowPlan) throws(PenteError) -> ReadAhead {
        // The arithmetic has one of them, and the others are read meanwhile; of large ones two are enough.
        let slots = plan.rowsPerWindow * source.elementsPerRow * MemoryLayout<Element>.size > 1 << 21 ? 2 : 4
        let blockCount = plan.isShuffled ? source.rows! / plan.rowsPerBlock : 0
        let (rows, overflow) = plan.rowsPerWindow.multipliedReportingOverflow(by: slots)
        if overflow { throw .outOfMemory }
        let reader = ReadAhead(
            source, plan, slots, try Buffer(rows: rows, columns: source.elementsPerRow, isZeroed: false),
            try Buffer(count: slots), try Buffer(rows: slots, columns: plan.blocksPerWindow),
            try Buffer(count: (MemoryLayout<pente_meeting>.size + 7) / 8),
            blockCount > 0 ? try RowOrder(count: blockCount) : RowOrder())
        pente_meeting_init(reader.meeting)
        if Pool.hearOfForks() { reader.start() }
        return reader
    }

    private init(
        _ source: DataSource<Element>, _ plan: WindowPlan, _ slotCount: Int, _ memory: consuming Buffer<Element>,
        _ windows: consuming Buffer<Window>, _ starts: consuming Buffer<Int>,
        _ meeting: consuming Buffer<UInt64>, _ blocks: consuming RowOrder
    ) {
        self.source = source
        self.plan = plan
        self.slotCount = slotCount
        self.memory = memory
        self.windows = windows
        self.starts = starts
        self.meetingMemory = meeting
        self.blocks = blocks
        generation = Pool.generation
    }

    /// A child of fork() does not have the thread: it is alone, and must not wait for a lock that it held.
    private var hasThread: Bool { isRunning && generation == Pool.generation }

    private var meeting: UnsafeMutablePointer<pente_meeting> {
        UnsafeMutableRawPointer(meetingMemory.base).assumingMemoryBound(to: pente_meeting.self)
    }

    // MARK: Whoever takes windows

    /// The next window, and whether the epoch ends with it; one without rows only ends it. nil if `shouldStop`, which is
    /// asked ten times a second while there is none yet, said so.
    func take(shouldStop: () -> Bool) throws(PenteError) -> (examples: Examples<Element>, endsEpoch: Bool)? {
        if hasThread {
            pente_lock(meeting)
            takenCount += 1
            pente_tell_work(meeting)
            while readCount < takenCount && failure == nil {
                pente_await_change_shortly(meeting)
                pente_unlock(meeting)
                if shouldStop() { return nil }
                if !hasThread {  // it has forked
                    takenCount -= 1
                    return try take(shouldStop: shouldStop)
                }
                pente_lock(meeting)
            }
            pente_unlock(meeting)
        } else {
            if takenCount == readCount && failure == nil {
                if isRunning { try requireRereadable() }
                try read()
                readCount += 1
            }
            takenCount += 1
        }
        if readCount < takenCount { throw failure! }
        let slot = (takenCount - 1) % slotCount
        let window = windows.base[slot]
        return (examples(slot).rows(0, window.count).readOnly, window.endsEpoch)
    }

    /// In a child of fork(), the reader may have been in the middle of a window.
    private func requireRereadable() throws(PenteError) {
        if source.rows == nil {
            throw PenteError(
                .invalidState, "the source of a fit goes on in the process that began it, and in no child of its own")
        }
    }

    /// Where in the source a row of the window that was taken last is from.
    func sourceRow(_ row: Int) -> Int {
        let slot = (takenCount - 1) % slotCount
        return starts.base[slot * plan.blocksPerWindow + row / plan.rowsPerBlock] + row % plan.rowsPerBlock
    }

    /// No more windows are wanted. Waits for a read that is under way.
    func end() {
        guard hasThread else { return }
        pente_lock(meeting)
        isEnding = true
        pente_tell_work(meeting)
        pente_unlock(meeting)
        join()
    }

    // MARK: Whoever reads them

    override func run() {
        pente_lock(meeting)
        while true {
            // The window that was taken last is in use.
            while !isEnding && readCount - max(takenCount - 1, 0) == slotCount { pente_await_work(meeting) }
            if isEnding || isDone { break }
            pente_unlock(meeting)
            var problem: PenteError?
            do throws(PenteError) { try read() } catch { problem = error }
            pente_lock(meeting)
            failure = problem
            if problem == nil { readCount += 1 }
            pente_tell_change(meeting)
            if problem != nil { break }
        }
        pente_unlock(meeting)
    }

    /// A window of a source that is slow may take long: nobody waits for more than one read.
    private var isNotWanted: Bool {
        if generation != Pool.generation { return false }
        pente_lock(meeting)
        defer { pente_unlock(meeting) }
        return isEnding
    }

    private var isDone: Bool {
        source.rows == nil
            ? plan.epoch + epochsRead == plan.epochs : plan.window(readCount).epoch == plan.epochs
    }

    private func examples(_ slot: Int) -> MutableExamples<Element> {
        MutableExamples(
            memory.base + slot * plan.rowsPerWindow * source.elementsPerRow, rows: plan.rowsPerWindow, source)
    }

    /// Fills the next slot.
    private func read() throws(PenteError) {
        let slot = readCount % slotCount
        if let rows = source.rows { try read(slot, of: rows) } else { try readOn(slot) }
    }

    private func read(_ slot: Int, of rows: Int) throws(PenteError) {
        let (epoch, window) = plan.window(readCount)
        if plan.isShuffled && orderedEpoch != epoch {
            plan.order(blocks, inEpoch: epoch)
            orderedEpoch = epoch
        }
        let target = examples(slot)
        let first = window * plan.blocksPerWindow
        var count = 0
        for i in 0..<plan.blocksPerWindow where (first + i) * plan.rowsPerBlock < rows {
            let start = start(ofBlock: first + i, rows)
            starts.base[slot * plan.blocksPerWindow + i] = start
            if plan.isShuffled { willRead(first + i + plan.blocksPerWindow, rows) }
            let size = min(plan.rowsPerBlock, rows - start)
            let done = try read(start, into: target.rows(count, size))
            if done < size {
                throw PenteError(.invalidState, "the source ends after \(start + done) rows, but has \(rows)")
            }
            count += size
        }
        windows.base[slot] = Window(count: count, endsEpoch: (first + plan.blocksPerWindow) * plan.rowsPerBlock >= rows)
    }

    /// Where the block that comes as number `i` of the epoch begins.
    private func start(ofBlock i: Int, _ rows: Int) -> Int {
        (plan.isShuffled && i < rows / plan.rowsPerBlock ? blocks[i] : i) * plan.rowsPerBlock
    }

    /// A block of the next window: a disk has time to look for it. What comes in order the system reads ahead by itself.
    private func willRead(_ i: Int, _ rows: Int) {
        if i * plan.rowsPerBlock >= rows { return }
        let start = start(ofBlock: i, rows)
        source.willRead(start, min(plan.rowsPerBlock, rows - start))
    }

    private func readOn(_ slot: Int) throws(PenteError) {
        let target = examples(slot)
        let count = try read(position, into: target)
        starts.base[slot] = position
        position = count < target.count ? 0 : position + count
        windows.base[slot] = Window(count: count, endsEpoch: count < target.count)
        if count < target.count { epochsRead += 1 }
    }

    /// All rows, or those that there are before the source's end.
    private func read(_ first: Int, into target: MutableExamples<Element>) throws(PenteError) -> Int {
        var done = 0
        while done < target.count {
            if isNotWanted { break }
            let count = try source.read(first + done, into: target.rows(done, target.count - done))
            if count == 0 { break }
            done += count
        }
        return done
    }
}
