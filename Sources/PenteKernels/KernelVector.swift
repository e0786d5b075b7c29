// What conforms to a protocol is documented there.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// What is computed element by element is so by logical registers; or by numbers, each a vector of one lane, where small
/// matters more than fast. The bits are the same.
public protocol KernelVector<Scalar> {
    associatedtype Scalar: KernelScalar

    static var _lanes: Int { get }
    init(repeating number: Scalar)
    static func + (a: Self, b: Self) -> Self
    static func - (a: Self, b: Self) -> Self
    static func * (a: Self, b: Self) -> Self
    static func / (a: Self, b: Self) -> Self
    /// See `KernelScalar`.
    static func _fma(_ a: Self, _ b: Self, _ c: Self) -> Self
    static func _choose(_ x: Self, _ a: Self, _ b: Self) -> Self
    static func _powerOfTwo(_ shifted: Self) -> Self
    static func _add(_ vector: Self, to wide: UnsafeMutablePointer<Double>, _ count: Int)
    static func _narrow(_ wide: UnsafePointer<Double>, _ count: Int) -> Self
    /// Of vectors from element `e` on.
    static func _addSquares(_ vector: Self, weight: Self?, to sums: inout WideSums, _ e: Int)
    /// A vector, or the `count` elements that are left of a row.
    static func _load(_ pointer: UnsafePointer<Scalar>, upTo count: Int) -> Self
    static func _store(_ vector: Self, _ pointer: UnsafeMutablePointer<Scalar>, upTo count: Int)
}

extension SIMD16: KernelVector where Scalar == Float {
    @_alwaysEmitIntoClient @_transparent
    public static var _lanes: Int { 16 }

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Self, _ b: Self, _ c: Self) -> Self { Float._fma(a, b, c) }

    @_alwaysEmitIntoClient @_transparent
    public static func _choose(_ x: Self, _ a: Self, _ b: Self) -> Self { Float._choose(x, a, b) }

    @_alwaysEmitIntoClient @_transparent
    public static func _powerOfTwo(_ shifted: Self) -> Self { Float._powerOfTwo(shifted) }

    @_alwaysEmitIntoClient @_transparent
    public static func _add(_ vector: Self, to wide: UnsafeMutablePointer<Double>, _ count: Int) {
        Float._add(vector, to: wide, count)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _narrow(_ wide: UnsafePointer<Double>, _ count: Int) -> Self { Float._narrow(wide, count) }

    @_alwaysEmitIntoClient @_transparent
    public static func _addSquares(_ vector: Self, weight: Self?, to sums: inout WideSums, _ e: Int) {
        Float._addSquares(vector, weight: weight, to: &sums)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _load(_ pointer: UnsafePointer<Float>, upTo count: Int) -> Self {
        Float.load(pointer, upTo: count)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _store(_ vector: Self, _ pointer: UnsafeMutablePointer<Float>, upTo count: Int) {
        Float.store(vector, pointer, upTo: count)
    }
}

extension SIMD8: KernelVector where Scalar == Double {
    @_alwaysEmitIntoClient @_transparent
    public static var _lanes: Int { 8 }

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Self, _ b: Self, _ c: Self) -> Self { Double._fma(a, b, c) }

    @_alwaysEmitIntoClient @_transparent
    public static func _choose(_ x: Self, _ a: Self, _ b: Self) -> Self { Double._choose(x, a, b) }

    @_alwaysEmitIntoClient @_transparent
    public static func _powerOfTwo(_ shifted: Self) -> Self { Double._powerOfTwo(shifted) }

    @_alwaysEmitIntoClient @_transparent
    public static func _add(_ vector: Self, to wide: UnsafeMutablePointer<Double>, _ count: Int) {
        Double._add(vector, to: wide, count)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _narrow(_ wide: UnsafePointer<Double>, _ count: Int) -> Self { Double._narrow(wide, count) }

    @_alwaysEmitIntoClient @_transparent
    public static func _addSquares(_ vector: Self, weight: Self?, to sums: inout WideSums, _ e: Int) {
        Double._addSquares(vector, weight: weight, to: &sums)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _load(_ pointer: UnsafePointer<Double>, upTo count: Int) -> Self {
        Double.load(pointer, upTo: count)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _store(_ vector: Self, _ pointer: UnsafeMutablePointer<Double>, upTo count: Int) {
        Double.store(vector, pointer, upTo: count)
    }
}

/// A vector of one lane.
extension Float: KernelVector {
    public typealias Scalar = Float

    @_alwaysEmitIntoClient @_transparent
    public static var _lanes: Int { 1 }

    @_alwaysEmitIntoClient @_transparent
    public init(repeating number: Float) { self = number }

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Float, _ b: Float, _ c: Float) -> Float { c.addingProduct(a, b) }

    @_alwaysEmitIntoClient @_transparent
    public static func _choose(_ x: Float, _ a: Float, _ b: Float) -> Float { x > 0 ? a : b }

    @_alwaysEmitIntoClient @_transparent
    public static func _powerOfTwo(_ shifted: Float) -> Float {
        Float(bitPattern: (shifted.bitPattern &- 0x4b40_0000 &+ 127) << 23)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _add(_ number: Float, to wide: UnsafeMutablePointer<Double>, _ count: Int) {
        wide.pointee += Double(number)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _narrow(_ wide: UnsafePointer<Double>, _ count: Int) -> Float { Float(wide.pointee) }

    @_alwaysEmitIntoClient @_transparent
    public static func _addSquares(_ number: Float, weight: Float?, to sums: inout WideSums, _ e: Int) {
        sums.add(Double(number), times: Double(number) * Double(weight ?? 1), e % 16)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _load(_ pointer: UnsafePointer<Float>, upTo count: Int) -> Float { pointer.pointee }

    @_alwaysEmitIntoClient @_transparent
    public static func _store(_ number: Float, _ pointer: UnsafeMutablePointer<Float>, upTo count: Int) {
        pointer.pointee = number
    }
}

/// A vector of one lane.
extension Double: KernelVector {
    public typealias Scalar = Double

    @_alwaysEmitIntoClient @_transparent
    public static var _lanes: Int { 1 }

    @_alwaysEmitIntoClient @_transparent
    public init(repeating number: Double) { self = number }

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Double, _ b: Double, _ c: Double) -> Double { c.addingProduct(a, b) }

    @_alwaysEmitIntoClient @_transparent
    public static func _choose(_ x: Double, _ a: Double, _ b: Double) -> Double { x > 0 ? a : b }

    @_alwaysEmitIntoClient @_transparent
    public static func _powerOfTwo(_ shifted: Double) -> Double {
        Double(bitPattern: (shifted.bitPattern &- 0x4338_0000_0000_0000 &+ 1023) << 52)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _add(_ number: Double, to wide: UnsafeMutablePointer<Double>, _ count: Int) {
        wide.pointee += Double(number)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _narrow(_ wide: UnsafePointer<Double>, _ count: Int) -> Double { Double(wide.pointee) }

    @_alwaysEmitIntoClient @_transparent
    public static func _addSquares(_ number: Double, weight: Double?, to sums: inout WideSums, _ e: Int) {
        sums.add(Double(number), times: Double(number) * Double(weight ?? 1), e % 8)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _load(_ pointer: UnsafePointer<Double>, upTo count: Int) -> Double { pointer.pointee }

    @_alwaysEmitIntoClient @_transparent
    public static func _store(_ number: Double, _ pointer: UnsafeMutablePointer<Double>, upTo count: Int) {
        pointer.pointee = number
    }
}
