#if hasFeature(Embedded)
    /// The standard library's SIMD wants its scalars to be Codable, which Embedded Swift does not have.
    public typealias VectorScalar = SIMDScalar
#else
    /// What the standard library's SIMD wants its scalars to be.
    public typealias VectorScalar = SIMDScalar & Codable
#endif

/// A number type that the kernels compute in: `Float` or `Double`.
///
/// A `Vector` is 64 bytes: the *logical* register. A processor with narrower ones splits it, so that sums come in
/// the same order, and to the same bits, on each. What begins with _ is the kernels' own, though public.
public protocol KernelScalar: BinaryFloatingPoint, VectorScalar, BitwiseCopyable, Sendable {
    associatedtype Vector: SIMD, KernelVector where Vector.Scalar == Self
    /// Four lanes, for up to four elements: whole vectors of them would straddle two cache lines more often.
    associatedtype Four: SIMD where Four.Scalar == Self

    /// a·b + c, each lane rounded once.
    static func _fma(_ a: Vector, _ b: Vector, _ c: Vector) -> Vector
    /// The same vector, which the compiler does not compute part by part.
    static func _whole(_ vector: Vector) -> Vector
    /// a in each lane where x > 0, else b.
    static func _choose(_ x: Vector, _ a: Vector, _ b: Vector) -> Vector
    /// 2^k for k + `_roundingShift`.
    static func _powerOfTwo(_ shifted: Vector) -> Vector
    /// 1.5 · 2^(fraction bits): added to a number, it leaves the nearest whole one in the last bits.
    static var _roundingShift: Self { get }
    static var _log2e: Self { get }
    static var _ln2: (high: Self, low: Self) { get }
    /// e to this is 0.
    static var _lowestExponent: Self { get }
    /// How far the two series go until what is left is below half a unit in the last place.
    static var _exponentialTerms: Int { get }
    static var _artanhTerms: Int { get }
    /// The first `count` elements at `pointer` (a vector's at most), then zeros. Reads nothing beyond them.
    static func _loadPartial(_ pointer: UnsafePointer<Self>, _ count: Int) -> Vector
    static func _loadFour(_ pointer: UnsafePointer<Self>, _ count: Int) -> Four
    static func _fma(_ a: Self, _ b: Four, _ c: Four) -> Four
    /// The lanes, then zeros.
    static func _extend(_ four: Four) -> Vector
    /// Stores the first `count` lanes (fewer than all) of `vector`.
    static func _storePartial(_ vector: Vector, _ pointer: UnsafeMutablePointer<Self>, _ count: Int)
    /// Adds the first `count` lanes, or all, to numbers in float64.
    static func _add(_ vector: Vector, to wide: UnsafeMutablePointer<Double>, _ count: Int)
    /// Adds a block's sums to those of the blocks before. In float64, where they have no more digits than the terms, what the
    /// additions round off is kept, as in `CompensatedSum`, in the corrections. Compiled once, for any processor.
    static func _accumulate(
        _ block: UnsafePointer<Double>, _ count: Int, into sums: UnsafeMutablePointer<Double>,
        _ corrections: UnsafeMutablePointer<Self>)
    /// The first eight lanes.
    static func _low(_ vector: Vector) -> SIMD8<Double>
    /// Adds each lane.
    static func _add(_ vector: Vector, to sums: inout WideSums)
    static func _narrow(_ low: SIMD8<Double>, _ high: SIMD8<Double>) -> Vector
    /// The nearest to the first `count` numbers, or to a vector's lanes of them; then zeros.
    static func _narrow(_ wide: UnsafePointer<Double>, _ count: Int) -> Vector
    /// The transpose of a block of up to a vector's lanes of lines, of up to as many elements, a line behind another, with
    /// zeros where there is no line.
    static func _transpose(
        _ from: UnsafePointer<Self>, _ stride: Int, lines: Int, count: Int, into to: UnsafeMutablePointer<Self>)
    /// The sum of all lanes, as a tree: halves are added until one lane is left.
    static func _sum(_ vector: Vector) -> Self
    /// The sums of `count` vectors, 4, 8 or as many as a vector has lanes, from one of them on, each as `_sum` adds it.
    static func _sums(_ vectors: InlineArray<16, Vector>, from first: Int, count: Int) -> Vector
    /// As many rows as a vector has room for, of up to four or eight elements, which get as many lanes each: zeros fill them.
    static func _loadFours(_ pointer: UnsafePointer<Self>, _ stride: Int, _ count: Int) -> Vector
    static func _loadEights(_ pointer: UnsafePointer<Self>, _ stride: Int, _ count: Int) -> Vector
    /// The sums of two, four or eight lanes side by side each, of as many vectors, as `_sum` would add them with zeros.
    static func _sumsOfTwo(_ a: Vector, _ b: Vector) -> Vector
    static func _sumsOfFour(_ a: Vector, _ b: Vector, _ c: Vector, _ d: Vector) -> Vector
    static func _sumsOfEight(_ vectors: InlineArray<8, Vector>) -> Vector
    /// The first `period` lanes, 1, 2, 4 or 8 of them, over and over.
    static func _repeat(_ vector: Vector, _ period: Int) -> Vector
    /// Stores rows of `columns` elements, of which each takes up `stride` lanes.
    static func _storeRows(
        _ vector: Vector, _ to: UnsafeMutablePointer<Self>, _ toStride: Int, _ rows: Int, _ columns: Int, _ stride: Int)
    /// The first `count` lanes, and zeros.
    static func _firstLanes(_ vector: Vector, _ count: Int) -> Vector
    /// Adds the square of each lane, times its lane of `weight` if there is one, to `sums`.
    static func _addSquares(_ vector: Vector, weight: Vector?, to sums: inout WideSums)
    /// Copies the elements `e ..< e + count`, by their number in a matrix of so many columns; a view of one column has
    /// the same element for all columns of a row. Compiled once, for any processor: it is rare and only copies.
    static func _gather(_ view: MatrixView<Self>, _ e: Int, _ count: Int, _ columns: Int, into: UnsafeMutableRawPointer)
    /// The reverse.
    static func _scatter(_ from: UnsafeRawPointer, _ view: MutableMatrixView<Self>, _ e: Int, _ count: Int)
}

/// Sixteen float64 lanes in which a loss is added up, whatever the type of its terms.
public struct WideSums {
    @usableFromInline var low = SIMD8<Double>.zero
    @usableFromInline var high = SIMD8<Double>.zero

    @_alwaysEmitIntoClient @_transparent
    init() {}

    @_alwaysEmitIntoClient @_transparent
    var total: Double { Double.sumEight(low + high) }

    /// Adds a b in one lane.
    @inlinable
    mutating func add(_ a: Double, times b: Double, _ lane: Int) {
        withUnsafeMutableBytes(of: &self) {
            let sums = $0.baseAddress!.assumingMemoryBound(to: Double.self)
            sums[lane] = sums[lane].addingProduct(a, b)
        }
    }
}

/// A sum in float64 of any number of terms, after Kahan ("Further remarks on reducing truncation errors", 1965): what an
/// addition rounds off goes into the next one.
public struct CompensatedSum: BitwiseCopyable {
    /// All terms so far, nearly rounded once.
    public var value = 0.0
    @usableFromInline var correction = 0.0

    /// Of no terms.
    @inlinable @inline(__always)
    public init() {}

    @_alwaysEmitIntoClient @_transparent
    mutating func add(_ term: Double) { Self.add(term, &value, &correction) }

    /// The same, compiled once, for any processor: where small matters more than fast.
    @inline(never) @export(interface)
    public mutating func addByCall(_ term: Double) { add(term) }

    @_alwaysEmitIntoClient @_transparent
    static func add(_ term: Double, _ sum: inout Double, _ correction: inout Double) {
        let term = term + correction
        let next = sum + term
        let lost = term - (next - sum)
        // Infinity and NaN stay what they are.
        correction = lost - lost == 0 ? lost : 0
        sum = next
    }
}

extension KernelScalar {
    /// How many elements a vector holds: 16 of float32, 8 of float64.
    @_alwaysEmitIntoClient @_transparent
    static var lanes: Int { 64 / MemoryLayout<Self>.size }

    @_alwaysEmitIntoClient @_transparent
    static func load(_ pointer: UnsafePointer<Self>) -> Vector {
        UnsafeRawPointer(pointer).loadUnaligned(as: Vector.self)
    }

    @_alwaysEmitIntoClient @_transparent
    static func store(_ vector: Vector, _ pointer: UnsafeMutablePointer<Self>) {
        UnsafeMutableRawPointer(pointer).storeBytes(of: vector, as: Vector.self)
    }

    /// Loads a whole vector, or the `count` elements that are left of a row.
    @_alwaysEmitIntoClient @_transparent
    static func load(_ pointer: UnsafePointer<Self>, upTo count: Int) -> Vector {
        count >= lanes ? load(pointer) : _loadPartial(pointer, count)
    }

    @_alwaysEmitIntoClient @_transparent
    static func store(_ vector: Vector, _ pointer: UnsafeMutablePointer<Self>, upTo count: Int) {
        if count >= lanes { store(vector, pointer) } else { _storePartial(vector, pointer, count) }
    }

    @_alwaysEmitIntoClient @_transparent
    static func sumEight(_ vector: SIMD8<Self>) -> Self {
        let four = vector.lowHalf + vector.highHalf
        let two = four.lowHalf + four.highHalf
        return two[0] + two[1]
    }
}
