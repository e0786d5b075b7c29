import PenteKernels
import Synchronization

/// A large product, or many dot products, on several threads: each takes the next part of the outputs. An output's sum is
/// one thread's, in the same order as on one thread.
final class ParallelPass<Element: Scalar>: ParallelWork {
    private var pass: Pass<Element>
    /// A product's rows or its columns, whichever are more, its rows if the sums are wide, or the columns of a forward pass.
    private var sharesRows = false
    private var count = 0
    private var perPart = 0
    private let next = Atomic<Int>(0)

    init(_ pass: Pass<Element>) { self.pass = pass }

    /// Work worth sharing, in multiply-adds: some 80 microseconds of a product, or 20 of dot products, whose results are few.
    static func isLarge(_ pass: Pass<Element>, _ work: Int) -> Bool {
        work >= (pass.product == nil ? 1 << 19 : 1 << 22)
    }

    /// On a pool that is taken.
    func run(_ pass: Pass<Element>, threads: Int) {
        self.pass = pass
        let (rows, columns) = pass.product?.outputs ?? (0, pass.forward!.outputs)
        sharesRows = rows > columns || pass.product?.wide != nil
        count = sharesRows ? rows : columns
        // Some 200 at a time, since the other factor is packed for each part, but some for each thread: whole tiles, and
        // whole cache lines.
        let parts = threads * max(1, min(4, count / (200 * threads)))
        let unit = sharesRows ? 8 : 32
        perPart = ((count - 1) / parts / unit + 1) * unit
        next.store(0, ordering: .relaxed)
        Pool.begin(self)
        perform(0)
        Pool.end()
    }

    override func perform(_ thread: Int) {
        let scratch = Pool.memory(thread).assumingMemoryBound(to: Element.self)
        while true {
            let first = next.wrappingAdd(perPart, ordering: .relaxed).oldValue
            if first >= count { return }
            Element._perform(part(first, min(perPart, count - first), scratch: scratch))
        }
    }

    private func part(_ first: Int, _ count: Int, scratch: UnsafeMutablePointer<Element>) -> Pass<Element> {
        var part = pass
        if let product = pass.product {
            part.product = sharesRows ? product.rows(first, count) : product.columns(first, count)
            if product.scratch != nil { part.product!.scratch = scratch }
        }
        if let forward = pass.forward { part.forward = forward.outputs(first, count) }
        if first > 0 { part.columnSums = nil }
        return part
    }
}

/// An optimizer's step on several threads, each of which takes its part of each parameter.
final class ParallelUpdate<Element: Scalar>: ParallelWork {
    private var updates: Updates<Element>
    private let next = Atomic<Int>(0)

    init(_ updates: Updates<Element>) { self.updates = updates }

    /// On a pool that is taken.
    func run(_ updates: Updates<Element>, threads: Int) {
        self.updates = updates
        self.updates.parts = threads
        next.store(0, ordering: .relaxed)
        Pool.begin(self)
        perform(0)
        Pool.end()
    }

    override func perform(_ thread: Int) {
        var updates = updates
        while true {
            updates.part = next.wrappingAdd(1, ordering: .relaxed).oldValue
            if updates.part >= updates.parts { return }
            Element._perform(updates)
        }
    }
}
