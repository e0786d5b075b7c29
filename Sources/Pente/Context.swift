import PenteKernels

/// What a forward pass keeps for its backward pass, with the workspace of both. Reuse it from step to step: only the
/// first allocates. One context serves one pass at a time.
public final class Context<Element: Scalar> {
    package var x: Matrix<Element>?
    package var sums = GradientSums<Element>()

    public init() {}
}

/// The gradients of a batch on their way to the parameters.
///
/// A block of rows writes a partial sum in the parameter's type; the partial sums of several blocks are added up in
/// float64, in order, so that ten million rows lose no precision. Parameters lie one behind another.
package struct GradientSums<Element: Scalar>: ~Copyable {
    private var partial = Buffer<Element>()
    private var wide = Buffer<Double>()
    private var isWide = false

    package init() {}

    /// Starts a batch of so many blocks. Throws without a change if there is no memory.
    package mutating func start(_ parameters: [Parameter<Element>], blocks: Int) throws(PenteError) {
        var total = 0
        for parameter in parameters { total += parameter.count }
        if partial.count != total { partial = try Buffer(count: total) }
        isWide = blocks > 1
        guard isWide else { return }
        if wide.count == total { wide.zero() } else { wide = try Buffer(count: total) }
    }

    /// Where the block's gradient of the parameter with `offset` elements before it goes.
    package func partial(at offset: Int) -> UnsafeMutablePointer<Element> { partial.base + offset }

    package mutating func endBlock() {
        if isWide {
            Element._perform(.accumulate(Accumulation(.widen(partial.base, to: wide.base), count: partial.count)))
        }
    }

    /// Adds the batch's gradients to the parameters'.
    package func add(to parameters: [Parameter<Element>]) {
        var offset = 0
        for parameter in parameters {
            add(from: offset, parameter.count, to: parameter.gradients.base)
            offset += parameter.count
        }
    }

    /// Adds `count` of them, from the one numbered `offset` on, to `gradients`.
    package func add(from offset: Int, _ count: Int, to gradients: UnsafeMutablePointer<Element>) {
        let direction: Accumulation<Element>.Direction =
            isWide ? .narrow(wide.base + offset, to: gradients) : .add(partial.base + offset, to: gradients)
        Element._perform(.accumulate(Accumulation(direction, count: count)))
    }
}
