import PenteSystem
import Synchronization

/// How many threads a call may use: one, unless you say otherwise. The bits are the same for any number.
public enum Threads {
    private static let wanted = Atomic<Int>(1)

    /// The calling thread is one of them.
    public static var count: Int { wanted.load(ordering: .relaxed) }

    /// From 1 to 256. More threads are started when there is first work for them, and wait for more; those too many end
    /// at once or, if they are at work, when that is done. One call at a time has them: another goes on alone.
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

/// The threads that help: workers, which wait while there is nothing to do.
enum Pool {
    private static let isTaken = Atomic<Bool>(false)
    private static let forkCount = Atomic<Int>(0)
    private static let hearsOfForks = Atomic<Bool>(false)
    private nonisolated(unsafe) static var meeting = pente_meeting()
    // Whoever has taken the pool alone uses these.
    private nonisolated(unsafe) static var workers = InlineArray<256, pthread_t>(repeating: 0)
    private nonisolated(unsafe) static var workerCount = 0

    // Under the lock.
    /// Workers from this number on end.
    private nonisolated(unsafe) static var keptCount = 0
    private nonisolated(unsafe) static var work: Unmanaged<ParallelWork>?
    /// How many workers may still join in, how many have, and how many of these are not done.
    private nonisolated(unsafe) static var placesLeft = 0
    private nonisolated(unsafe) static var joinedCount = 0
    private nonisolated(unsafe) static var atWorkCount = 0

    /// Calls for up to `threads` − 1 workers, who go on until there is nothing left of the work. False if nobody comes:
    /// the pool is in use, or there are no threads to be had. Else the caller does its share, and calls `end`.
    @inline(never)
    static func begin(_ work: ParallelWork, threads: Int) -> Bool {
        guard take() else { return false }
        startWorkers(threads - 1)
        let helpers = min(workerCount, threads - 1)
        if helpers <= 0 {
            giveBack()
            return false
        }
        lock()
        self.work = .passUnretained(work)
        placesLeft = helpers
        joinedCount = 0
        unlock()
        for _ in 0..<helpers { pente_tell_work(&meeting) }
        return true
    }

    /// Waits for the workers that have begun; the others need not.
    @inline(never)
    static func end() {
        lock()
        placesLeft = 0
        while atWorkCount > 0 { awaitChange() }
        work = nil
        unlock()
        giveBack()
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
        while workerCount < count {
            let worker = pente_start_worker(Int64(workerCount)) { number in
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
        pente_tell_all_of_work(&meeting)
        while workerCount > first {
            workerCount -= 1
            pente_join_worker(workers[workerCount])
        }
    }

    /// A worker's life.
    @inline(never)
    private static func serve(_ number: Int) {
        lock()
        while number < keptCount {
            if placesLeft == 0 {
                pente_await_work(&meeting)
                continue
            }
            placesLeft -= 1
            joinedCount += 1
            atWorkCount += 1
            let (work, thread) = (self.work!, joinedCount)
            unlock()
            work._withUnsafeGuaranteedRef { $0.perform(thread) }
            lock()
            atWorkCount -= 1
            if atWorkCount == 0 { tellChange() }
        }
        unlock()
    }

    /// A child of fork() has the thread that forked alone: it starts workers of its own.
    private static func hearOfForks() -> Bool {
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
        work = nil
        placesLeft = 0
        atWorkCount = 0
        forkCount.wrappingAdd(1, ordering: .relaxed)
        isTaken.store(false, ordering: .releasing)
    }
}
