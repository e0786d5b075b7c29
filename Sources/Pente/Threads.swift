import PenteSystem
import Synchronization

/// How many threads a call may use: one, unless you say otherwise. The bits are the same for any number.
///
/// Any thread may ask and set it, at any time; it holds for calls that begin later. It is the process's, and has
/// nothing to do with the threads of a libpente.so in the same process.
public enum Threads {
    private static let wanted = Atomic<Int>(1)

    /// How many they may be; the calling thread is one of them.
    public static var count: Int { wanted.load(ordering: .relaxed) }

    /// From 1 to 256. More threads are started when there is first work for them, and wait for more; those too many end
    /// at once or, if they are at work, when that is done. One call at a time has them: another goes on alone. Throws
    /// `.invalidArgument` for another count.
    @inline(never)
    public static func setCount(_ count: Int) throws(PenteError) {
        guard count >= 1, count <= Int(PENTE_MOST_THREADS) else {
            throw PenteError(
                .invalidArgument, "count is \(count); it must be from 1 to \(Int(PENTE_MOST_THREADS))")
        }
        wanted.store(count, ordering: .sequentiallyConsistent)
        Pool.endSpareWorkers()
    }

    fileprivate static var wantedWorkers: Int { wanted.load(ordering: .sequentiallyConsistent) - 1 }
}

/// Work that several threads do together.
class ParallelWork {
    /// Does a share of it, on the thread of that number: 0 is the caller.
    func perform(_ thread: Int) { fatalError("parallel work is performed") }
}

/// Work in parts, of which each thread takes the next one.
class WorkInParts: ParallelWork {
    private final var count = 0
    private final var perPart = 1
    private final let next = Atomic<Int>(0)

    /// All `count` things, on a pool that is taken.
    @inline(never)
    final func run(count: Int, perPart: Int) {
        self.count = count
        self.perPart = perPart
        next.store(0, ordering: .relaxed)
        Pool.begin(self)
        perform(0)
        Pool.end()
    }

    final override func perform(_ thread: Int) {
        while true {
            let first = next.wrappingAdd(perPart, ordering: .relaxed).oldValue
            if first >= count { return }
            perform(first, min(perPart, count - first), thread)
        }
    }

    /// Does `count` things from `first` on.
    func perform(_ first: Int, _ count: Int, _ thread: Int) { fatalError("a part of the work is performed") }
}

/// The threads that help: workers, which wait while there is nothing to do.
enum Pool {
    private static let isTaken = Atomic<Bool>(false)
    private static let forkCount = Atomic<Int>(0)
    private static let hearsOfForks = Atomic<Bool>(false)
    /// One for each thread.
    private static let hasProcessors = Atomic<Bool>(false)
    private nonisolated(unsafe) static var meeting = pente_meeting()
    // Whoever has taken the pool alone uses these.
    private nonisolated(unsafe) static var workers = InlineArray<256, pthread_t>(repeating: 0)
    private nonisolated(unsafe) static var workerCount = 0
    private nonisolated(unsafe) static var helperCount = 0
    private nonisolated(unsafe) static var memory: UnsafeMutableRawPointer?
    private nonisolated(unsafe) static var memorySize = 0
    private nonisolated(unsafe) static var memoryPerThread = 0
    private nonisolated(unsafe) static var lastEnd = 0.0

    // Under the lock.
    /// Workers from this number on end.
    private nonisolated(unsafe) static var keptCount = 0
    private nonisolated(unsafe) static var work: Unmanaged<ParallelWork>?
    /// How many workers may still join in, how many have, and how many of these are not done.
    private nonisolated(unsafe) static var placesLeft = 0
    private nonisolated(unsafe) static var joinedCount = 0

    // Written under the lock, and watched without it.
    private static let atWorkCount = Atomic<Int>(0)
    /// How often workers have been told of something.
    private static let callCount = Atomic<Int>(0)

    /// Takes the pool for so many multiply-adds on up to `threads` threads, with `bytes` of memory for each, and returns how
    /// many they will be. If that is 1, nothing is taken: the pool is in use, or no threads, or no memory for them, are to
    /// be had, or nobody is awake for little work.
    @inline(never)
    static func take(threads: Int, work: Int, bytes: Int = 0) -> Int {
        guard take() else { return 1 }
        if work >= wakingWork || comesSoon(work) {
            startWorkers(threads - 1)
            helperCount = min(workerCount, threads - 1)
            if helperCount > 0 && reserve(bytes) { return helperCount + 1 }
        }
        giveBack()
        return 1
    }

    /// Work for which it is worth waking threads, whatever comes after it: some 0.2 ms. Less than that wakes them if it comes
    /// one after the other.
    private static var wakingWork: Int { 1 << 23 }

    /// Whether the last work ended just now. When this one will have, if nobody helps, is a guess.
    private static func comesSoon(_ work: Int) -> Bool {
        let now = pente_monotonic_seconds()
        defer { lastEnd = now + Double(work) * 2e-10 }
        return now < lastEnd + 1e-4
    }

    /// Calls for the workers of a pool that is taken, who go on until there is nothing left of the work. The caller does
    /// its share, and calls `end`.
    @inline(never)
    static func begin(_ work: ParallelWork) {
        assert(isTaken.load(ordering: .relaxed) && (1...workerCount).contains(helperCount), "a pool nobody has taken")
        lock()
        assert(placesLeft == 0 && atWorkCount.load(ordering: .relaxed) == 0, "work begins beside other work")
        self.work = .passUnretained(work)
        placesLeft = helperCount
        joinedCount = 0
        unlock()
        callCount.wrappingAdd(1, ordering: .releasing)
        for _ in 0..<helperCount { pente_tell_work(&meeting) }
    }

    /// Waits for the workers that have begun; the others need not.
    @inline(never)
    static func end() {
        lock()
        placesLeft = 0
        unlock()
        if !isSoon({ atWorkCount.load(ordering: .acquiring) == 0 }) {
            lock()
            while atWorkCount.load(ordering: .relaxed) > 0 { awaitChange() }
            unlock()
        }
        lastEnd = pente_monotonic_seconds()
        giveBack()
    }

    /// A thread's part of the memory, aligned to two cache lines.
    static func memory(_ thread: Int) -> UnsafeMutableRawPointer {
        assert((0...helperCount).contains(thread), "a thread without memory")
        return memory! + thread * memoryPerThread
    }

    private static func reserve(_ bytes: Int) -> Bool {
        memoryPerThread = (bytes | 127) + 1
        let (size, overflow) = memoryPerThread.multipliedReportingOverflow(by: helperCount + 1)
        if overflow { return false }
        if size <= memorySize { return true }
        freeMemory()
        memory = aligned_alloc(128, size)
        memorySize = memory == nil ? 0 : size
        return memory != nil
    }

    /// A fork may come between any two of these.
    private static func freeMemory() {
        let former = memory
        memorySize = 0
        memory = nil
        free(former)
    }

    /// Whether something comes within some 0.2 ms: being woken takes less, but as long as the work of many a step, and may
    /// be on the waking thread's processor. Nobody watches who has to share a processor for it.
    @inline(__always)
    private static func isSoon(_ hasCome: () -> Bool) -> Bool {
        for _ in 0..<(hasProcessors.load(ordering: .relaxed) ? 6000 : 1) {
            if hasCome() { return true }
            pente_pause()
        }
        return false
    }

    /// How many forks this process comes from: workers do not live through one.
    static var generation: Int { forkCount.load(ordering: .relaxed) }

    // For what the threads at work share.
    @inline(never)
    static func lock() { pente_lock(&meeting) }
    @inline(never)
    static func unlock() { pente_unlock(&meeting) }
    @inline(never)
    static func awaitChange() { pente_await_change(&meeting) }
    @inline(never)
    static func tellChange() { pente_tell_change(&meeting) }

    @inline(never)
    private static func take() -> Bool {
        hearOfForks()
            && isTaken.compareExchange(expected: false, desired: true, ordering: .sequentiallyConsistent).exchanged
    }

    @inline(never)
    private static func giveBack() {
        var wanted: Int
        repeat {
            wanted = Threads.wantedWorkers
            endWorkers(from: wanted)
            isTaken.store(false, ordering: .sequentiallyConsistent)
            // Who has set another count meanwhile has found the pool taken.
        } while wanted != Threads.wantedWorkers && take()
    }

    fileprivate static func endSpareWorkers() {
        if hearsOfForks.load(ordering: .relaxed) && take() { giveBack() }
    }

    @inline(never)
    private static func startWorkers(_ count: Int) {
        if workerCount >= count { return }
        lock()
        keptCount = count
        unlock()
        defer { hasProcessors.store(workerCount < pente_processor_count(), ordering: .relaxed) }
        while workerCount < count {
            let worker = pente_start_worker(Int64(workerCount), 1 << 20) { number in
                Pool.serve(Int(bitPattern: number))
                return nil
            }
            if worker == 0 { return }
            workers[workerCount] = worker
            workerCount += 1
        }
    }

    @inline(never)
    private static func endWorkers(from first: Int) {
        if workerCount <= first { return }
        lock()
        keptCount = first
        unlock()
        callCount.wrappingAdd(1, ordering: .releasing)
        pente_tell_all_of_work(&meeting)
        while workerCount > first {
            workerCount -= 1
            pente_join_worker(workers[workerCount])
        }
        if first == 0 { freeMemory() }
    }

    /// A worker's life.
    @inline(never)
    private static func serve(_ number: Int) {
        var isAwake = false
        lock()
        while number < keptCount {
            if placesLeft == 0 {
                if isAwake {
                    let calls = callCount.load(ordering: .relaxed)
                    unlock()
                    isAwake = isSoon { callCount.load(ordering: .acquiring) != calls }
                    lock()
                } else {
                    pente_await_work(&meeting)
                }
                continue
            }
            placesLeft -= 1
            joinedCount += 1
            atWorkCount.wrappingAdd(1, ordering: .relaxed)
            let (work, thread) = (self.work!, joinedCount)
            unlock()
            work._withUnsafeGuaranteedRef { $0.perform(thread) }
            isAwake = true
            lock()
            if atWorkCount.wrappingSubtract(1, ordering: .releasing).newValue == 0 { tellChange() }
        }
        unlock()
    }

    /// A child of fork() has the thread that forked alone: it starts workers of its own.
    static func hearOfForks() -> Bool {
        if hearsOfForks.load(ordering: .relaxed) { return true }
        let isHeard = pente_at_fork { Pool.startAnew() } != 0
        hearsOfForks.store(isHeard, ordering: .relaxed)
        return isHeard
    }

    @inline(never)
    private static func startAnew() {
        pente_meeting_init(&meeting)
        workerCount = 0
        keptCount = 0
        placesLeft = 0
        atWorkCount.store(0, ordering: .relaxed)
        forkCount.wrappingAdd(1, ordering: .relaxed)
        isTaken.store(false, ordering: .releasing)
    }
}
