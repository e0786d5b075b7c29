import PenteKernels
import PenteSystem
#if arch(x86_64)
    import PenteKernelsAVX2
    import PenteKernelsAVX512
#endif

/// The number type of a layer and of all that it meets: `Float` or `Double`.
public protocol Scalar: KernelScalar {
    /// "float32" or "float64".
    static var dtypeName: StaticString { get }
    /// The highest level of kernels that this processor runs is chosen at each call.
    static func _perform(_ operation: KernelOperation<Self>)
}

extension Scalar {
    @inline(__always)
    static func _perform(_ pass: Pass<Self>) { withUnsafePointer(to: pass) { _perform(.pass($0)) } }

    @inline(__always)
    static func _perform(_ error: SquaredError<Self>) {
        withUnsafePointer(to: error) { _perform(Pass(error: $0)) }
    }

    @inline(__always)
    static func _perform(_ updates: Updates<Self>) { withUnsafePointer(to: updates) { _perform(.update($0)) } }

    @inline(__always)
    static func _perform(_ accumulation: Accumulation<Self>) {
        withUnsafePointer(to: accumulation) { _perform(.accumulate($0)) }
    }

    @inline(__always)
    static func _perform(_ clipping: inout Clipping<Self>) {
        withUnsafeMutablePointer(to: &clipping) { _perform(.clip($0)) }
    }

    @inline(__always)
    static func _perform(_ activation: ActivationPass<Self>) {
        withUnsafePointer(to: activation) { _perform(.activation($0)) }
    }

    @inline(__always)
    static func _perform(_ standardization: Standardization<Self>) {
        withUnsafePointer(to: standardization) { _perform(.standardization($0)) }
    }
}

extension Float: Scalar {
    /// "float32".
    public static var dtypeName: StaticString { "float32" }

    /// Not for users, though public.
    public static func _perform(_ operation: KernelOperation<Float>) {
        #if arch(x86_64)
            switch pente_processor_level() {
            case 2: performAVX512(operation)
            case 1: performAVX2(operation)
            default: performBaseline(operation)
            }
        #else
            performBaseline(operation)
        #endif
    }
}

extension Double: Scalar {
    /// "float64".
    public static var dtypeName: StaticString { "float64" }

    /// Not for users, though public.
    public static func _perform(_ operation: KernelOperation<Double>) {
        #if arch(x86_64)
            switch pente_processor_level() {
            case 2: performAVX512(operation)
            case 1: performAVX2(operation)
            default: performBaseline(operation)
            }
        #else
            performBaseline(operation)
        #endif
    }
}
