/// What the kernels can do: the one thing that crosses from the library to a processor level's module.
///
/// Everything below `run` is inlined into the module that calls it, and so compiled for that module's processor;
/// nothing of it may be emitted as a function of its own, which another module could then share.
public enum KernelOperation<T: KernelScalar>: BitwiseCopyable {
    // Large, and in the smallest of steps: they stay where they are.
    case pass(UnsafePointer<Pass<T>>)
    case update(UnsafePointer<Update<T>>)
    case accumulate(Accumulation<T>)
    case activation(ActivationPass<T>)
    case standardization(Standardization<T>)

    /// Tiles of dot products, for a block of outputs, for two of them, for one, and for one row; and of outer products. In
    /// logical vectors: as large as the processor's registers allow.
    @_alwaysEmitIntoClient @_transparent
    public func run<
        let r: Int, let c: Int, let r2: Int, let c2: Int, let r1: Int, let c1: Int, let r0: Int, let c0: Int,
        let s: Int, let d: Int
    >(
        dot: Tile<r, c>.Type, pair: Tile<r2, c2>.Type, column: Tile<r1, c1>.Type, row: Tile<r0, c0>.Type,
        outer: Tile<s, d>.Type
    ) {
        switch self {
        case .pass(let pass): pass.pointee.run(dot, pair, column, row, outer)
        case .update(let update): update.pointee.run()
        case .accumulate(let accumulation): accumulation.run()
        case .activation(let activation): activation.run()
        case .standardization(let standardization): standardization.run()
        }
    }
}

/// The kernels for any processor of this architecture.
@inline(never) @export(interface)
public func performBaseline(_ operation: KernelOperation<Float>) {
    #if arch(x86_64)
        // Without the instruction a fused multiply-add is a call: small matters more than fast.
        operation.run(
            dot: Tile<1, 1>.self, pair: Tile<1, 1>.self, column: Tile<1, 1>.self, row: Tile<1, 1>.self,
            outer: Tile<1, 1>.self)
    #else
        operation.run(
            dot: Tile<2, 2>.self, pair: Tile<2, 2>.self, column: Tile<4, 1>.self, row: Tile<1, 4>.self,
            outer: Tile<4, 1>.self)
    #endif
}

@inline(never) @export(interface)
public func performBaseline(_ operation: KernelOperation<Double>) {
    #if arch(x86_64)
        operation.run(
            dot: Tile<1, 1>.self, pair: Tile<1, 1>.self, column: Tile<1, 1>.self, row: Tile<1, 1>.self,
            outer: Tile<1, 1>.self)
    #else
        operation.run(
            dot: Tile<2, 2>.self, pair: Tile<2, 2>.self, column: Tile<4, 1>.self, row: Tile<1, 4>.self,
            outer: Tile<4, 1>.self)
    #endif
}
