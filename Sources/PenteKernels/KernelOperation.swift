/// What the kernels can do: the one thing that crosses from the library to a processor level's module.
///
/// Everything below `run` is inlined into the module that calls it, and so compiled for that module's processor;
/// nothing of it may be emitted as a function of its own, which another module could then share.
public enum KernelOperation<T: KernelScalar>: BitwiseCopyable {
    case forward(Forward<T>)
    case product(Product<T>)
    case columnSums(ColumnSums<T>)
    case squaredError(SquaredError<T>)
    case update(Update<T>)
    case accumulate(Accumulation<T>)
    case activation(ActivationPass<T>)
    case standardization(Standardization<T>)

    /// `dot` is the tile of dot products, `outer` that of outer products, both in logical vectors: as large as the
    /// processor's registers allow.
    @_alwaysEmitIntoClient @_transparent
    public func run<let r: Int, let c: Int, let s: Int, let d: Int>(dot: Tile<r, c>.Type, outer: Tile<s, d>.Type) {
        switch self {
        case .forward(let forward): forward.run(dot)
        case .product(let product): product.run(outer)
        case .columnSums(let sums): sums.run()
        case .squaredError(let error): error.run()
        case .update(let update): update.run()
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
        operation.run(dot: Tile<1, 1>.self, outer: Tile<1, 1>.self)
    #else
        operation.run(dot: Tile<2, 2>.self, outer: Tile<4, 1>.self)
    #endif
}

@inline(never) @export(interface)
public func performBaseline(_ operation: KernelOperation<Double>) {
    #if arch(x86_64)
        operation.run(dot: Tile<1, 1>.self, outer: Tile<1, 1>.self)
    #else
        operation.run(dot: Tile<2, 2>.self, outer: Tile<4, 1>.self)
    #endif
}
