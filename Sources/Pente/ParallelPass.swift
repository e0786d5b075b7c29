import PenteKernels

/// A large product, or many dot products, on several threads: each takes the next part of the outputs. An output's sum is
/// one thread's, in the same order as on one thread.
final class ParallelPass<Element: Scalar>: WorkInParts {
    private var pass: Pass<Element>
    /// A product's rows or its columns, whichever are more, its rows if the sums are wide, or the columns of a forward pass.
    private var sharesRows = false

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
        let count = sharesRows ? rows : columns
        // Some 200 at a time, since the other factor is packed for each part, but some for each thread: whole tiles, and
        // whole cache lines.
        let parts = threads * max(1, min(4, count / (200 * threads)))
        let unit = sharesRows ? 8 : 32
        run(count: count, perPart: ((count - 1) / parts / unit + 1) * unit)
    }

    override func perform(_ first: Int, _ count: Int, _ thread: Int) {
        let scratch = Pool.memory(thread).assumingMemoryBound(to: Element.self)
        Element._perform(part(first, count, scratch: scratch))
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
final class ParallelUpdate<Element: Scalar>: WorkInParts {
    private var updates: Updates<Element>

    init(_ updates: Updates<Element>) { self.updates = updates }

    /// On a pool that is taken.
    func run(_ updates: Updates<Element>, threads: Int) {
        self.updates = updates
        self.updates.parts = threads
        run(count: threads, perPart: 1)
    }

    override func perform(_ first: Int, _ count: Int, _ thread: Int) {
        var updates = updates
        updates.part = first
        Element._perform(updates)
    }
}
