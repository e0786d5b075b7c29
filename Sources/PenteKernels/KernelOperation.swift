/// What the kernels can do: the one thing that crosses from the library to a processor level's module.
///
/// Everything below `run` is inlined into the module that calls it, and so compiled for that module's processor;
/// nothing of it may be emitted as a function of its own, which another module could then share.
public enum KernelOperation<T: KernelScalar>: BitwiseCopyable {
    // A pointer and what it points to: two registers.
    case pass(UnsafePointer<Pass<T>>)
    case row(UnsafePointer<Pass<T>>)
    case update(UnsafePointer<Updates<T>>)
    case accumulate(UnsafePointer<Accumulation<T>>)
    case clip(UnsafeMutablePointer<Clipping<T>>)
    case activation(UnsafePointer<ActivationPass<T>>)
    case standardization(UnsafePointer<Standardization<T>>)

    /// All but a pass, which is a function of its own: what is rare would take registers from it.
    @_alwaysEmitIntoClient @_transparent
    public func runElements<V: KernelVector<T>>(_ vector: V.Type) {
        switch self {
        case .pass: break
        case .row(let pass): pass.pointee.runRow()
        case .update(let updates): updates.pointee.run(vector)
        case .accumulate(let accumulation): accumulation.pointee.run(vector)
        case .clip(let clipping): clipping.pointee.run(vector)
        case .activation(let activation): activation.pointee.run(vector)
        case .standardization(let standardization): standardization.pointee.run(vector)
        }
    }
}

/// The kernels for any processor of this architecture. On x86-64 a fused multiply-add is a call then: small matters more
/// than fast.
@inline(never) @export(interface)
public func performBaseline(_ operation: KernelOperation<Float>) {
    #if arch(x86_64)
        operation.runPlainly()
    #else
        guard case .pass(let pass) = operation else { return operation.runElements(Float.Vector.self) }
        pass.pointee.run(
            Tile<2, 2>.self, Tile<2, 2>.self, Tile<4, 1>.self, Tile<1, 4>.self, Tile<4, 1>.self,
            Tile<4, 2>.self)
    #endif
}

/// The same for float64.
@inline(never) @export(interface)
public func performBaseline(_ operation: KernelOperation<Double>) {
    #if arch(x86_64)
        operation.runPlainly()
    #else
        guard case .pass(let pass) = operation else { return operation.runElements(Double.Vector.self) }
        pass.pointee.run(
            Tile<2, 2>.self, Tile<2, 2>.self, Tile<4, 1>.self, Tile<1, 4>.self, Tile<4, 1>.self,
            Tile<4, 2>.self)
    #endif
}
