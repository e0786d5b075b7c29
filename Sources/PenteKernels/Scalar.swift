import PenteVectors

#if hasFeature(Embedded)
    /// The standard library's SIMD wants its scalars to be Codable, which Embedded Swift does not have.
    public typealias VectorScalar = SIMDScalar
#else
    public typealias VectorScalar = SIMDScalar & Codable
#endif

/// A number type that the kernels compute in: `Float` or `Double`.
///
/// A `Vector` is 64 bytes: the *logical* register. A processor with narrower ones splits it, so that sums come in
/// the same order, and to the same bits, on each. What begins with _ is the kernels' own, though public.
public protocol KernelScalar: BinaryFloatingPoint, VectorScalar, BitwiseCopyable, Sendable {
    associatedtype Vector: SIMD, KernelVector where Vector.Scalar == Self

    /// a·b + c, each lane rounded once.
    static func _fma(_ a: Vector, _ b: Vector, _ c: Vector) -> Vector
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
    /// The first `count` elements at `pointer` (fewer than a vector's), then zeros. Reads nothing beyond them.
    static func _loadPartial(_ pointer: UnsafePointer<Self>, _ count: Int) -> Vector
    /// The same for up to four, with any numbers in place of zeros.
    static func _loadFour(_ pointer: UnsafePointer<Self>, _ count: Int) -> Vector
    /// Stores the first `count` lanes (fewer than all) of `vector`.
    static func _storePartial(_ vector: Vector, _ pointer: UnsafeMutablePointer<Self>, _ count: Int)
    /// Adds the first `count` lanes, or all, to numbers in float64.
    static func _add(_ vector: Vector, to wide: UnsafeMutablePointer<Double>, _ count: Int)
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
    /// The sums of two or four lanes side by side each, of as many vectors, as `_sum` would add them with zeros.
    static func _sumsOfTwo(_ a: Vector, _ b: Vector) -> Vector
    static func _sumsOfFour(_ a: Vector, _ b: Vector, _ c: Vector, _ d: Vector) -> Vector
    /// The first `period` lanes, 1, 2 or 4 of them, over and over.
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

extension Float: KernelScalar {
    public typealias Vector = SIMD16<Float>

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Vector, _ b: Vector, _ c: Vector) -> Vector { pente_fma_float16(a, b, c) }

    @_alwaysEmitIntoClient @_transparent
    public static func _choose(_ x: Vector, _ a: Vector, _ b: Vector) -> Vector { pente_choose_float16(x, a, b) }

    @_alwaysEmitIntoClient @_transparent
    public static func _powerOfTwo(_ shifted: Vector) -> Vector { pente_power_of_two_float16(shifted) }

    @_alwaysEmitIntoClient @_transparent
    public static var _roundingShift: Float { 12_582_912 }
    @_alwaysEmitIntoClient @_transparent
    public static var _log2e: Float { 1.442_695_04 }
    @_alwaysEmitIntoClient @_transparent
    public static var _ln2: (high: Float, low: Float) { (0.693_147_18, -1.904_654_2e-9) }
    @_alwaysEmitIntoClient @_transparent
    public static var _lowestExponent: Float { -105 }
    @_alwaysEmitIntoClient @_transparent
    public static var _exponentialTerms: Int { 9 }
    @_alwaysEmitIntoClient @_transparent
    public static var _artanhTerms: Int { 8 }

    @_alwaysEmitIntoClient @_transparent
    public static func _loadPartial(_ pointer: UnsafePointer<Float>, _ count: Int) -> Vector {
        pente_load_float16(pointer, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _loadFour(_ pointer: UnsafePointer<Float>, _ count: Int) -> Vector {
        pente_load4_float16(pointer, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _storePartial(_ vector: Vector, _ pointer: UnsafeMutablePointer<Float>, _ count: Int) {
        pente_store_float16(vector, pointer, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _low(_ vector: Vector) -> SIMD8<Double> { pente_low_float16(vector) }

    @_alwaysEmitIntoClient @_transparent
    public static func _add(_ vector: Vector, to sums: inout WideSums) {
        sums.low += pente_low_float16(vector)
        sums.high += pente_high_float16(vector)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _narrow(_ low: SIMD8<Double>, _ high: SIMD8<Double>) -> Vector {
        pente_narrow_float16(low, high)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _narrow(_ wide: UnsafePointer<Double>, _ count: Int) -> Vector {
        pente_narrow_float16(
            Double.load(wide, upTo: count), count > 8 ? Double.load(wide + 8, upTo: count &- 8) : .zero)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _transpose(
        _ from: UnsafePointer<Float>, _ stride: Int, lines: Int, count: Int, into to: UnsafeMutablePointer<Float>
    ) {
        pente_transpose_float16(
            from, Int64(truncatingIfNeeded: stride), Int64(truncatingIfNeeded: lines),
            Int64(truncatingIfNeeded: count), to)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _add(_ vector: Vector, to wide: UnsafeMutablePointer<Double>, _ count: Int) {
        Double.store(Double.load(wide, upTo: count) + pente_low_float16(vector), wide, upTo: count)
        if count > 8 {
            Double.store(
                Double.load(wide + 8, upTo: count &- 8) + pente_high_float16(vector), wide + 8, upTo: count &- 8)
        }
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _sum(_ vector: Vector) -> Float { sumEight(vector.lowHalf + vector.highHalf) }

    @_alwaysEmitIntoClient @_transparent
    public static func _sums(_ v: InlineArray<16, Vector>, from first: Int, count: Int) -> Vector {
        // A vector folded with itself has each sum twice.
        var s = v
        let (half, quarter, eighth) = (count / 2, count / 4, count / 8)
        for i in 0..<half { s[i] = pente_fold8_float16(s[i], s[i &+ half]) }
        for i in 0..<quarter { s[i] = pente_fold4_float16(s[i], s[i &+ quarter]) }
        for i in 0..<max(eighth, 1) { s[i] = pente_fold2_float16(s[i], s[i &+ eighth]) }
        let sums = pente_fold1_float16(s[0], s[count / 16])
        return count == 4 ? pente_every4_float16(sums) : count == 8 ? pente_every2_float16(sums) : sums
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _sumsOfTwo(_ a: Vector, _ b: Vector) -> Vector {
        pente_rows2_float16(pente_fold1_float16(a, b))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _sumsOfFour(_ a: Vector, _ b: Vector, _ c: Vector, _ d: Vector) -> Vector {
        pente_rows4_float16(pente_fold1_float16(pente_fold2_float16(a, c), pente_fold2_float16(b, d)))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _firstLanes(_ vector: Vector, _ count: Int) -> Vector {
        pente_first_lanes_float16(vector, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _repeat(_ vector: Vector, _ period: Int) -> Vector {
        switch period {
        case 1: pente_repeat1_float16(vector)
        case 2: pente_repeat2_float16(vector)
        default: pente_repeat4_float16(vector)
        }
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _storeRows(
        _ vector: Vector, _ to: UnsafeMutablePointer<Float>, _ toStride: Int, _ rows: Int, _ columns: Int, _ stride: Int
    ) {
        pente_store_rows_float16(
            vector, to, Int64(truncatingIfNeeded: toStride), Int64(truncatingIfNeeded: rows),
            Int64(truncatingIfNeeded: columns), Int64(truncatingIfNeeded: stride))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _addSquares(_ vector: Vector, weight: Vector?, to sums: inout WideSums) {
        let low = pente_low_float16(vector), high = pente_high_float16(vector)
        var (lowFactor, highFactor) = (low, high)
        if let weight {
            lowFactor *= pente_low_float16(weight)
            highFactor *= pente_high_float16(weight)
        }
        sums.low = Double._fma(low, lowFactor, sums.low)
        sums.high = Double._fma(high, highFactor, sums.high)
    }

    @inline(never) @export(interface)
    public static func _gather(
        _ view: MatrixView<Float>, _ e: Int, _ count: Int, _ columns: Int, into: UnsafeMutableRawPointer
    ) {
        view.gather(e, count, columns, into: into.assumingMemoryBound(to: Float.self))
    }

    @inline(never) @export(interface)
    public static func _scatter(_ from: UnsafeRawPointer, _ view: MutableMatrixView<Float>, _ e: Int, _ count: Int) {
        view.scatter(from.assumingMemoryBound(to: Float.self), e, count)
    }
}

extension Double: KernelScalar {
    public typealias Vector = SIMD8<Double>

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Vector, _ b: Vector, _ c: Vector) -> Vector { pente_fma_double8(a, b, c) }

    @_alwaysEmitIntoClient @_transparent
    public static func _choose(_ x: Vector, _ a: Vector, _ b: Vector) -> Vector { pente_choose_double8(x, a, b) }

    @_alwaysEmitIntoClient @_transparent
    public static func _powerOfTwo(_ shifted: Vector) -> Vector { pente_power_of_two_double8(shifted) }

    @_alwaysEmitIntoClient @_transparent
    public static var _roundingShift: Double { 6_755_399_441_055_744 }
    @_alwaysEmitIntoClient @_transparent
    public static var _log2e: Double { 1.442_695_040_888_963_4 }
    @_alwaysEmitIntoClient @_transparent
    public static var _ln2: (high: Double, low: Double) { (0.693_147_180_559_945_3, 2.319_046_813_846_299_6e-17) }
    @_alwaysEmitIntoClient @_transparent
    public static var _lowestExponent: Double { -750 }
    @_alwaysEmitIntoClient @_transparent
    public static var _exponentialTerms: Int { 15 }
    @_alwaysEmitIntoClient @_transparent
    public static var _artanhTerms: Int { 16 }

    @_alwaysEmitIntoClient @_transparent
    public static func _loadPartial(_ pointer: UnsafePointer<Double>, _ count: Int) -> Vector {
        pente_load_double8(pointer, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _loadFour(_ pointer: UnsafePointer<Double>, _ count: Int) -> Vector {
        pente_load4_double8(pointer, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _storePartial(_ vector: Vector, _ pointer: UnsafeMutablePointer<Double>, _ count: Int) {
        pente_store_double8(vector, pointer, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _low(_ vector: Vector) -> SIMD8<Double> { vector }

    @_alwaysEmitIntoClient @_transparent
    public static func _add(_ vector: Vector, to sums: inout WideSums) { sums.low += vector }

    @_alwaysEmitIntoClient @_transparent
    public static func _narrow(_ low: SIMD8<Double>, _ high: SIMD8<Double>) -> Vector { low }

    @_alwaysEmitIntoClient @_transparent
    public static func _narrow(_ wide: UnsafePointer<Double>, _ count: Int) -> Vector {
        load(wide, upTo: count)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _transpose(
        _ from: UnsafePointer<Double>, _ stride: Int, lines: Int, count: Int, into to: UnsafeMutablePointer<Double>
    ) {
        pente_transpose_double8(
            from, Int64(truncatingIfNeeded: stride), Int64(truncatingIfNeeded: lines),
            Int64(truncatingIfNeeded: count), to)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _add(_ vector: Vector, to wide: UnsafeMutablePointer<Double>, _ count: Int) {
        store(load(wide, upTo: count) + vector, wide, upTo: count)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _sum(_ vector: Vector) -> Double { sumEight(vector) }

    @_alwaysEmitIntoClient @_transparent
    public static func _sums(_ v: InlineArray<16, Vector>, from first: Int, count: Int) -> Vector {
        var s = InlineArray<4, Vector>(repeating: .zero)
        let (half, quarter) = (count / 2, count / 4)
        for i in 0..<half { s[i] = pente_fold4_double8(v[first &+ i], v[first &+ i &+ half]) }
        for i in 0..<quarter { s[i] = pente_fold2_double8(s[i], s[i &+ quarter]) }
        let sums = pente_fold1_double8(s[0], s[count / 8])
        return count == 4 ? pente_every2_double8(sums) : sums
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _sumsOfTwo(_ a: Vector, _ b: Vector) -> Vector {
        pente_rows2_double8(pente_fold1_double8(a, b))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _sumsOfFour(_ a: Vector, _ b: Vector, _ c: Vector, _ d: Vector) -> Vector {
        pente_rows4_double8(pente_fold1_double8(pente_fold2_double8(a, c), pente_fold2_double8(b, d)))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _firstLanes(_ vector: Vector, _ count: Int) -> Vector {
        pente_first_lanes_double8(vector, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _repeat(_ vector: Vector, _ period: Int) -> Vector {
        switch period {
        case 1: pente_repeat1_double8(vector)
        case 2: pente_repeat2_double8(vector)
        default: pente_repeat4_double8(vector)
        }
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _storeRows(
        _ vector: Vector, _ to: UnsafeMutablePointer<Double>, _ toStride: Int, _ rows: Int, _ columns: Int,
        _ stride: Int
    ) {
        pente_store_rows_double8(
            vector, to, Int64(truncatingIfNeeded: toStride), Int64(truncatingIfNeeded: rows),
            Int64(truncatingIfNeeded: columns), Int64(truncatingIfNeeded: stride))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _addSquares(_ vector: Vector, weight: Vector?, to sums: inout WideSums) {
        var factor = vector
        if let weight { factor *= weight }
        sums.low = _fma(vector, factor, sums.low)
    }

    @inline(never) @export(interface)
    public static func _gather(
        _ view: MatrixView<Double>, _ e: Int, _ count: Int, _ columns: Int, into: UnsafeMutableRawPointer
    ) {
        view.gather(e, count, columns, into: into.assumingMemoryBound(to: Double.self))
    }

    @inline(never) @export(interface)
    public static func _scatter(_ from: UnsafeRawPointer, _ view: MutableMatrixView<Double>, _ e: Int, _ count: Int) {
        view.scatter(from.assumingMemoryBound(to: Double.self), e, count)
    }
}
