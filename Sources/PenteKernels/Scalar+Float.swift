// What conforms to a protocol is documented there.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import PenteVectors

extension Float: KernelScalar {
    public typealias Vector = SIMD16<Float>
    public typealias Four = SIMD4<Float>

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Vector, _ b: Vector, _ c: Vector) -> Vector { pente_fma_float16(a, b, c) }

    @_alwaysEmitIntoClient @_transparent
    public static func _whole(_ vector: Vector) -> Vector { pente_whole_float16(vector) }

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
    public static func _loadFour(_ pointer: UnsafePointer<Float>, _ count: Int) -> Four {
        pente_load_float4(pointer, Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _loadFours(_ pointer: UnsafePointer<Float>, _ stride: Int, _ count: Int) -> Vector {
        pente_load_fours_float16(pointer, Int64(truncatingIfNeeded: stride), Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _loadEights(_ pointer: UnsafePointer<Float>, _ stride: Int, _ count: Int) -> Vector {
        pente_load_eights_float16(pointer, Int64(truncatingIfNeeded: stride), Int64(truncatingIfNeeded: count))
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _fma(_ a: Float, _ b: Four, _ c: Four) -> Four { pente_fma_float4(a, b, c) }

    @_alwaysEmitIntoClient @_transparent
    public static func _extend(_ four: Four) -> Vector { pente_extend_float4(four) }

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
        if count >= lanes {
            pente_add_double8(pente_low_float16(vector), wide)
            pente_add_double8(pente_high_float16(vector), wide + 8)
        } else {
            Double._add(pente_low_float16(vector), to: wide, count)
            if count > 8 { Double._add(pente_high_float16(vector), to: wide + 8, count &- 8) }
        }
    }

    @_alwaysEmitIntoClient @_transparent
    public static func _sum(_ vector: Vector) -> Float { sumEight(vector.lowHalf + vector.highHalf) }

    @_alwaysEmitIntoClient @_transparent
    public static func _sums(_ v: InlineArray<16, Vector>, from first: Int, count: Int) -> Vector {
        // All sixteen are one vector's, and `first` is 0. A vector folded with itself has each sum twice.
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
    public static func _sumsOfEight(_ v: InlineArray<8, Vector>) -> Vector {
        var s = v
        for i in 0..<4 { s[i] = pente_fold4_float16(s[i], s[i &+ 4]) }
        for i in 0..<2 { s[i] = pente_fold2_float16(s[i], s[i &+ 2]) }
        return pente_rows8_float16(pente_fold1_float16(s[0], s[1]))
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
        case 4: pente_repeat4_float16(vector)
        default: pente_repeat8_float16(vector)
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
    public static func _accumulate(
        _ block: UnsafePointer<Double>, _ count: Int, into sums: UnsafeMutablePointer<Double>,
        _ corrections: UnsafeMutablePointer<Float>
    ) {
        for i in 0..<count { sums[i] += block[i] }
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
