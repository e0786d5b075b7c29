import PenteKernels

/// What a forward pass keeps for its backward pass, with the workspace of both. Reuse it from step to step: only the
/// first allocates. One context serves one pass at a time, and belongs to its layer's thread, or actor.
public final class Context<Element: Scalar> {
    package var x: Matrix<Element>?
    package var layer: Layer<Element>?
    package var memory = PassMemory<Element>()

    /// A context that holds no pass yet, for any layer.
    public init() {}
}

/// The memory of a pass through a layer.
package struct PassMemory<Element: Scalar>: ~Copyable {
    private var rows = Buffer<Element>()
    private var scratch = Buffer<Element>()
    /// y, for a layer that reads it, and until it is known that nothing failed.
    package var output = Buffer<Element>()
    /// Likewise x's gradient.
    package var gradInput = Buffer<Element>()
    /// The upstream gradient for a user's layer, which takes rows that lie one behind another.
    package var gradOutput = Buffer<Element>()
    package var sums = GradientSums<Element>()
    /// Whether it is as a forward pass left it: not if that failed in a callback.
    package var holdsPass = false

    package init() {}

    package var workspace: Workspace<Element> { Workspace(rows: rows.base, scratch: scratch.base) }

    /// Makes room for a pass; if there is no memory for it, nothing has changed.
    package mutating func reserve(
        rows count: Int, workspacePerRow: Int, scratch scratchCount: Int, outputs: Int
    ) throws(PenteError) {
        try scratch.reserve(rows: 1, columns: scratchCount)
        let largerRows = try rows.larger(rows: count, columns: workspacePerRow)
        if let larger = try output.larger(rows: count, columns: outputs) { output = larger }
        if let largerRows { rows = largerRows }
    }
}

/// The gradients of a batch on their way to the parameters.
///
/// A block of rows writes a partial sum in the parameter's type; the partial sums of several blocks are added up in
/// float64, in order, so that ten million rows lose no precision. Parameters lie one behind another. Where the partial sum
/// is not in use then, as for a bias, it holds the corrections of the sums in float64.
package struct GradientSums<Element: Scalar>: ~Copyable {
    private var partial = Buffer<Element>()
    private var wide = Buffer<Double>()
    private var isWide = false

    package init() {}

    /// Starts a batch of one block or, `isWide`, of several. Throws without a change if there is no memory.
    package mutating func start(count: Int, isWide: Bool) throws(PenteError) {
        if partial.count != count { partial = count == 0 ? Buffer() : try Buffer(count: count) }
        self.isWide = isWide && count > 0
        guard self.isWide else { return }
        if wide.count == count { wide.zero() } else { wide = try Buffer(count: count) }
        partial.zero()
    }

    /// Where the layer's blocks go.
    package var block: GradientBlock<Element> { GradientBlock(partial: partial.base, wide: isWide ? wide.base : nil) }

    /// The batch's gradients in the parameters' type, to be read where their offsets say.
    @inline(never)
    package func narrowed() -> UnsafePointer<Element> {
        if isWide {
            partial.zero()
            add(from: 0, partial.count, to: partial.base)
        }
        return UnsafePointer(partial.base)
    }

    /// Adds the batch's gradients to the parameters'.
    package func add(to parameters: [Parameter<Element>]) {
        var offset = 0
        for parameter in parameters {
            add(from: offset, parameter.count, to: parameter.gradients)
            offset += parameter.count
        }
    }

    /// Adds the batch's gradients to numbers of float64.
    @_optimize(speed)
    func add(to numbers: UnsafeMutablePointer<Double>) {
        for i in 0..<partial.count { numbers[i] += isWide ? wide.base[i] : Double(partial.base[i]) }
    }

    /// As if these, divided, were the batch's.
    mutating func set(_ gradients: UnsafePointer<Double>, count: Int, divisor: Double) throws(PenteError) {
        try start(count: count, isWide: false)
        for i in 0..<count { partial.base[i] = Element(gradients[i] / divisor) }
    }

    /// Where the batch's gradients are.
    package var sums: Updates<Element>.Sums { isWide ? .wide(wide.base) : .narrow(partial.base) }

    /// Adds `count` of them, from the one numbered `offset` on, to `gradients`.
    package func add(from offset: Int, _ count: Int, to gradients: UnsafeMutablePointer<Element>) {
        assert(offset >= 0 && count <= partial.count - offset, "gradients outside of the batch's")
        let direction: Accumulation<Element>.Direction =
            isWide ? .narrow(wide.base + offset, to: gradients) : .add(partial.base + offset, to: gradients)
        Element._perform(Accumulation(direction, count: count))
    }
}

/// Where a layer writes the gradients of its trained parameters for a block of rows, one behind another.
package struct GradientBlock<Element: Scalar> {
    package let partial: UnsafeMutablePointer<Element>
    package let wide: UnsafeMutablePointer<Double>?
    /// In place of both: each sum has a place of its own there.
    package var log: UnsafeMutablePointer<GradientLog<Element>>?
    /// Among the gradients of the batch.
    package var offset = 0

    /// That of a layer further on in a chain.
    package func advanced(by count: Int) -> GradientBlock {
        GradientBlock(partial: partial + count, wide: wide.map { $0 + count }, log: log, offset: offset + count)
    }

    /// The first `count` gradients of the block are written.
    package func end(_ count: Int) {
        guard let wide, count > 0 else { return }
        Element._perform(Accumulation(.widen(partial, to: wide), count: count))
    }
}
