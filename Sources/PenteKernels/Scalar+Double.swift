// What conforms to a protocol is documented there.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import PenteVectors

extension Double: KernelScalar {
    public typealias Vector = SIMD8<Double>
    public typealias Four = SIMD4<Double>

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Vector, _ b: Vector, _ c: Vector) -> Vector { pente_fma_double8(a, b, c) }

    @_alwaysEmitIntoClient @_transparent
    public static func _whole(_ vector: Vector) -> Vector { vector }

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
    public static func _loadFour(_ pointer: UnsafePointer<Double>, _ count: Int) -> Four {
        pente_load_double4(pointer, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _loadFours(_ pointer: UnsafePointer<Double>, _ stride: Int, _ count: Int) -> Vector {
        pente_load_fours_double8(pointer, Int64(truncatingIfNeeded: stride), Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _loadEights(_ pointer: UnsafePointer<Double>, _ stride: Int, _ count: Int) -> Vector {
        _loadPartial(pointer, count)
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Double, _ b: Four, _ c: Four) -> Four { pente_fma_double4(a, b, c) }

    @_alwaysEmitIntoClient @_transparent
    public static func _extend(_ four: Four) -> Vector { pente_extend_double4(four) }

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
    public static func _sumsOfEight(_ v: InlineArray<8, Vector>) -> Vector {
        var s = v
        for i in 0..<4 { s[i] = pente_fold4_double8(s[i], s[i &+ 4]) }
        for i in 0..<2 { s[i] = pente_fold2_double8(s[i], s[i &+ 2]) }
        return pente_fold1_double8(s[0], s[1])
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
        case 4: pente_repeat4_double8(vector)
        default: vector
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
    public static func _accumulate(
        _ block: UnsafePointer<Double>, _ count: Int, into sums: UnsafeMutablePointer<Double>,
        _ corrections: UnsafeMutablePointer<Double>
    ) {
        for i in 0..<count { CompensatedSum.add(block[i], &sums[i], &corrections[i]) }
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
