import PenteVectors

/// A tile of outputs whose sums stay in registers: `rows` × `columns` of them.
///
/// The size of a tile is a matter of speed alone: each output has a sum of its own, added up in an order that its shape
/// fixes, so that every tile gives the same bits. A product's rows divide a vector's lanes, since packed rows lie in such
/// groups.
public struct Tile<let rows: Int, let columns: Int> {
    // Read and written a row at a time: so the optimizer keeps them in registers, in a large function too.
    @usableFromInline typealias Sums<Element> = InlineArray<rows, InlineArray<columns, Element>>

    /// y[r, c] = Σⱼ x[r, j] w[c, j] + b[c] for the first `height` rows and `width` columns, with b[lane mod columns] in
    /// the lanes of `bias`. Lane l of a sum holds the terms with j ≡ l (mod lanes). For tiles of up to sixteen outputs.
    @_alwaysEmitIntoClient @_transparent
    static func dot<T: KernelScalar>(
        _ x: UnsafePointer<T>, _ xStride: Int, _ w: UnsafePointer<T>, _ wStride: Int, count: Int, ahead: inout Ahead<T>,
        bias: T.Vector, into y: UnsafeMutablePointer<T>, _ yStride: Int, height: Int, width: Int
    ) {
        // A row or column too many is the last one once more.
        var xRows = InlineArray<rows, Int>(repeating: 0)
        for r in 0..<rows { xRows[r] = min(r, height &- 1) &* xStride }
        var wRows = InlineArray<columns, Int>(repeating: 0)
        for c in 0..<columns { wRows[c] = min(c, width &- 1) &* wStride }
        var sums = Sums<T.Vector>(repeating: InlineArray(repeating: .zero))
        var j = 0
        while j &+ T.lanes <= count {
            var ws = InlineArray<columns, T.Vector>(repeating: .zero)
            for c in 0..<columns { ws[c] = T.load(w + (wRows[c] &+ j)) }
            ahead.prefetch((rows &+ 1) / 2)
            for r in 0..<rows {
                let xs = T.load(x + (xRows[r] &+ j))
                var row = sums[r]
                for c in 0..<columns { row[c] = T._fma(xs, ws[c], row[c]) }
                sums[r] = row
            }
            j &+= T.lanes
        }
        if j < count {
            var ws = InlineArray<columns, T.Vector>(repeating: .zero)
            for c in 0..<columns { ws[c] = T._loadPartial(w + (wRows[c] &+ j), count &- j) }
            for r in 0..<rows {
                let xs = T._loadPartial(x + (xRows[r] &+ j), count &- j)
                var row = sums[r]
                for c in 0..<columns { row[c] = T._fma(xs, ws[c], row[c]) }
                sums[r] = row
            }
        }
        var flat = InlineArray<16, T.Vector>(repeating: .zero)
        for r in 0..<rows { for c in 0..<columns { flat[r &* columns &+ c] = sums[r][c] } }
        // Sixteen sums of float64 are two vectors.
        let step = min(rows, T.lanes / columns)
        store(flat, 0, step, bias, y, yStride, height, width)
        if step < rows { store(flat, step, step, bias, y, yStride, height, width) }
    }

    /// The sums of `step` rows from `r` on.
    @_alwaysEmitIntoClient @_transparent
    static func store<T: KernelScalar>(
        _ sums: InlineArray<16, T.Vector>, _ r: Int, _ step: Int, _ bias: T.Vector, _ y: UnsafeMutablePointer<T>,
        _ yStride: Int, _ height: Int, _ width: Int
    ) {
        if r >= height { return }
        let totals = T._sums(sums, from: r &* columns, count: min(rows &* columns, T.lanes)) + bias
        let to = y + r &* yStride
        if height &- r < step || width < columns {
            T._storeRows(totals, to, yStride, min(height &- r, step), min(width, columns), columns)
        } else if yStride == columns {
            T.store(totals, to, upTo: step &* columns)
        } else {
            T._storeRows(totals, to, yStride, step, columns, columns)
        }
    }

    /// sums[r, ·] = Σₛ a[r, s] b[s, ·] for `columns` vectors, or for the first `width` elements of one; the terms come in
    /// the order of s, in runs of `stepsPerRun` that are added up one after the other: fewer roundings in a row.
    @_alwaysEmitIntoClient @_transparent
    static func multiply<T: KernelScalar>(
        _ a: Factor<T>, _ b: Factor<T>, steps: Int, width: Int, ahead: inout Ahead<T>,
        into done: inout InlineArray<16, T.Vector>
    ) {
        var aStep = a.base
        var bStep = b.base
        var s = 0
        while s < steps {
            var sums = Sums<T.Vector>(repeating: InlineArray(repeating: .zero))
            let isFirst = s == 0
            let end = min(s &+ stepsPerRun, steps)
            while s < end {
                var bs = InlineArray<columns, T.Vector>(repeating: .zero)
                for c in 0..<columns {
                    bs[c] = T.load(bStep + c &* b.group, upTo: width)
                    pente_prefetch(bStep + (c &* b.group &+ 8 &* b.step))
                }
                if rows <= 4 { ahead.prefetch(columns / 2) }
                for r in 0..<rows {
                    let factor = T.Vector(repeating: aStep[r &* a.line])
                    var row = sums[r]
                    for c in 0..<columns { row[c] = T._fma(factor, bs[c], row[c]) }
                    sums[r] = row
                }
                aStep += a.step
                bStep += b.step
                s &+= 1
            }
            if isFirst {
                for r in 0..<rows { for c in 0..<columns { done[r &* columns &+ c] = sums[r][c] } }
            } else {
                for r in 0..<rows { for c in 0..<columns { done[r &* columns &+ c] += sums[r][c] } }
            }
        }
    }
}

/// A multiple of eight that divides a product's blocks.
@_alwaysEmitIntoClient @_transparent
var stepsPerRun: Int { 64 }
