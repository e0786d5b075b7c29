// A linear layer with one output is all latency if it is small, and all memory if it is not. Its passes go a vector's lanes
// of rows at a time, read one after the other and used again while they are in the first-level cache; what the stages give
// each other stays in registers. The operations and their order are those of `Pass.run`.

extension Pass {
    /// Whether `runColumn` does it.
    @_alwaysEmitIntoClient @_transparent
    var isColumn: Bool {
        guard let forward, let error = error?.pointee, product != nil, columnSums != nil else { return false }
        return forward.weight.rows == 1 && error.sampleWeight == nil && error.target.rowStride == 1
    }

    @_alwaysEmitIntoClient @_transparent
    func runColumn() {
        let error = error!.pointee
        let x = forward!.x
        let weight = forward!.weight.base
        let bias = T.Vector(repeating: forward!.bias![0])
        let scale = T.Vector(repeating: error.scale)
        let period = Self.period(x)
        let repeated = period == 0 ? .zero : T._repeat(T._loadPartial(weight, x.columns), period)
        let gradients = error.gradPrediction!.base
        var sums = product!.y.base
        var biasSum = columnSums!
        // The gradients of every sixteenth row.
        var column = WideSums()
        var total = error.total!
        var first = 0
        while first < rows {
            // Rows that stay in the first-level cache: up to four runs of the gradient's terms, or one; also where two whole
            // vectors would take the time of four.
            let inBlock = first % rowsPerBlock
            let left = min(rowsPerBlock &- inBlock, rows &- first)
            let isOne = x.columns > T.lanes || x.columns > 4 && left <= 2 &* stepsPerRun
            let count = min(left, isOne ? stepsPerRun : 4 &* stepsPerRun)
            var i = 0
            while i < count {
                // A block of the loss's.
                var squares = WideSums()
                let end = min(i &+ SquaredError<T>.rowsPerBlock, count)
                if period > 0 {
                    while i &+ T.lanes <= end {
                        let y = Self.predictShort(x, first &+ i, repeated, period) + bias
                        let difference = T._whole(y - T.load(error.target.base + (first &+ i)))
                        T._addSquares(difference, weight: nil, to: &squares)
                        let gradient = T._whole(difference * scale)
                        T.store(gradient, gradients + i)
                        Self.add(gradient, i, to: &column)
                        i &+= T.lanes
                    }
                }
                while i < end {
                    let left = min(end &- i, T.lanes)
                    let y = T._firstLanes(Self.predict(x, first &+ i, left, weight) + bias, left)
                    let difference = T._whole(y - T.load(error.target.base + (first &+ i), upTo: left))
                    T._addSquares(difference, weight: nil, to: &squares)
                    let gradient = T._whole(difference * scale)
                    T.store(gradient, gradients + i, upTo: left)
                    Self.add(gradient, i, to: &column)
                    i &+= T.lanes
                }
                total.pointee.add(squares.total)
                total += error.totalStep
            }
            let part = x.rows(first, count)
            if count > stepsPerRun {
                Self.addRuns(gradients, part, to: sums, isNew: inBlock == 0)
            } else {
                Self.addRun(gradients, part, to: sums, isNew: inBlock == 0)
            }
            first &+= count
            if first == rows || first % rowsPerBlock == 0 {
                var sum = 0.0
                column.add(to: &sum)
                biasSum.store(sum, 0)
                product!.widen()
                sums += sumsStep
                biasSum.advance(by: sumsStep)
                column = WideSums()
            }
        }
    }

    /// A run of the gradient's terms, two vectors of inputs at a time.
    @_alwaysEmitIntoClient @_transparent
    static func addRun(
        _ gradients: UnsafePointer<T>, _ x: MatrixView<T>, to sums: UnsafeMutablePointer<T>, isNew: Bool
    ) {
        var j = 0
        while j < x.columns {
            let (left, left2) = (x.columns &- j, x.columns &- j &- T.lanes)
            var (sum, sum2) = (T.Vector.zero, T.Vector.zero)
            var row = x.base + j
            if left2 >= T.lanes {
                for r in 0..<x.rows {
                    let g = T.Vector(repeating: gradients[r])
                    sum = T._fma(g, T.load(row), sum)
                    sum2 = T._fma(g, T.load(row + T.lanes), sum2)
                    row += x.rowStride
                }
            } else {
                let first = min(left, T.lanes)
                for r in 0..<x.rows {
                    let g = T.Vector(repeating: gradients[r])
                    sum = T._fma(g, T._loadPartial(row, first), sum)
                    if left2 > 0 { sum2 = T._fma(g, T._loadPartial(row + T.lanes, left2), sum2) }
                    row += x.rowStride
                }
            }
            T.store(isNew ? sum : T.load(sums + j, upTo: left) + sum, sums + j, upTo: left)
            if left2 > 0 {
                let to = sums + (j &+ T.lanes)
                T.store(isNew ? sum2 : T.load(to, upTo: left2) + sum2, to, upTo: left2)
            }
            j &+= 2 &* T.lanes
        }
    }

    /// Two to four runs side by side, so that no term waits for the last, of a vector of inputs or less.
    @_alwaysEmitIntoClient @_transparent
    static func addRuns(
        _ gradients: UnsafePointer<T>, _ x: MatrixView<T>, to sums: UnsafeMutablePointer<T>, isNew: Bool
    ) {
        let last = (x.rows &- 1) / stepsPerRun
        var (fours, runs) = (InlineArray<4, T.Four>(repeating: .zero), InlineArray<4, T.Vector>(repeating: .zero))
        var lastRun = T.Vector.zero
        var row = x.base
        var (s, end) = (0, x.rows &- last &* stepsPerRun)
        var most = last
        while true {
            // Without a run, or where it has ended, the one before once more.
            var starts = InlineArray<4, Int>(repeating: 0)
            for r in 1..<4 { starts[r] = min(r, most) &* stepsPerRun }
            if x.columns <= 4 {
                while s < end {
                    for r in 0..<4 {
                        let four = T._loadFour(row + starts[r] &* x.rowStride, x.columns)
                        fours[r] = T._fma(gradients[starts[r] &+ s], four, fours[r])
                    }
                    row += x.rowStride
                    s &+= 1
                }
                for r in 0..<4 { runs[r] = T._extend(fours[r]) }
            } else {
                while s < end {
                    for r in 0..<4 {
                        let g = T.Vector(repeating: gradients[starts[r] &+ s])
                        runs[r] = T._fma(g, T._loadPartial(row + starts[r] &* x.rowStride, x.columns), runs[r])
                    }
                    row += x.rowStride
                    s &+= 1
                }
            }
            // Not by its number, for which the runs would be in memory.
            if most == last { lastRun = last == 1 ? runs[1] : last == 2 ? runs[2] : runs[3] }
            if end == stepsPerRun { break }
            end = stepsPerRun
            most = last &- 1
        }
        var sum = runs[0]
        for r in 1..<3 { if r < last { sum += runs[r] } }
        sum += lastRun
        if !isNew { sum += T._loadPartial(sums, x.columns) }
        T._storePartial(sum, sums, x.columns)
    }

    /// Adds the gradients from row `i` on to those of every sixteenth row.
    @_alwaysEmitIntoClient @_transparent
    static func add(_ gradient: T.Vector, _ i: Int, to column: inout WideSums) {
        if T.lanes == 8 && i & 8 != 0 { column.high += T._low(gradient) } else { T._add(gradient, to: &column) }
    }

    /// How many lanes a row has in `predictShort`, or 0 if it is too long.
    @_alwaysEmitIntoClient @_transparent
    static func period(_ x: MatrixView<T>) -> Int {
        if x.columns <= 2 && x.isContiguous { return x.columns }
        return x.columns <= 4 ? 4 : x.columns <= 8 ? 8 : 0
    }

    /// `predict` for a vector's lanes of short rows, of which a vector holds several; as does `weight`.
    @_alwaysEmitIntoClient @_transparent
    static func predictShort(_ x: MatrixView<T>, _ first: Int, _ weight: T.Vector, _ period: Int) -> T.Vector {
        let row = x.base + first &* x.rowStride
        var sums: T.Vector
        switch period {
        case 1: sums = T._fma(T.load(row), weight, .zero)
        case 2: sums = T._sumsOfTwo(T._fma(T.load(row), weight, .zero), T._fma(T.load(row + T.lanes), weight, .zero))
        case 4:
            var four = InlineArray<4, T.Vector>(repeating: .zero)
            if x.columns == 4 && x.isContiguous {
                for v in 0..<4 { four[v] = T._fma(T.load(row + v &* T.lanes), weight, .zero) }
            } else {
                for v in 0..<4 {
                    let rows = T._loadFours(row + v &* (T.lanes / 4) &* x.rowStride, x.rowStride, x.columns)
                    four[v] = T._fma(rows, weight, .zero)
                }
            }
            sums = T._sumsOfFour(four[0], four[1], four[2], four[3])
        default:
            var eight = InlineArray<8, T.Vector>(repeating: .zero)
            for v in 0..<8 {
                let rows = T._loadEights(row + v &* (T.lanes / 8) &* x.rowStride, x.rowStride, x.columns)
                eight[v] = T._fma(rows, weight, .zero)
            }
            sums = T._sumsOfEight(eight)
        }
        // The lanes that a row does not have would be added, too: −0 becomes 0.
        return period < T.lanes ? sums + .zero : sums
    }

    /// The products of a vector's lanes of rows, or `count` of them, with the weight.
    @_alwaysEmitIntoClient @_transparent
    static func predict(
        _ x: MatrixView<T>, _ first: Int, _ count: Int, _ weight: UnsafePointer<T>
    ) -> T.Vector {
        let from = x.base + first &* x.rowStride
        if count == 1 {
            var y = T.Vector.zero
            y[0] = T._sum(dot(from, 0, 1, weight, x.columns)[0])
            return y
        }
        var products = InlineArray<16, T.Vector>(repeating: .zero)
        var r = 0
        if x.columns <= T.lanes {
            let weight = T._loadPartial(weight, x.columns)
            while r < count {
                products[r] = T._fma(T._loadPartial(from + r &* x.rowStride, x.columns), weight, .zero)
                r &+= 1
            }
        }
        while r < count {
            let four = dot(from + r &* x.rowStride, x.rowStride, count &- r, weight, x.columns)
            for i in 0..<4 { products[r &+ i] = four[i] }
            r &+= 4
        }
        return T._sums(products, from: 0, count: T.lanes)
    }

    /// The products of four rows with the weight, lane by lane; a row too many is the last one once more. Long rows are read
    /// one after the other, as memory likes it.
    @_alwaysEmitIntoClient @_transparent
    static func dot(
        _ row: UnsafePointer<T>, _ stride: Int, _ count: Int, _ weight: UnsafePointer<T>, _ inputs: Int
    ) -> InlineArray<4, T.Vector> {
        var sums = InlineArray<4, T.Vector>(repeating: .zero)
        var rows = InlineArray<4, Int>(repeating: 0)
        for r in 1..<4 { rows[r] = min(r, count &- 1) &* stride }
        let whole = inputs / T.lanes &* T.lanes
        var j = 0
        if inputs <= 2 &* T.lanes {
            while j < whole {
                let w = T.load(weight + j)
                for r in 0..<4 { sums[r] = T._fma(T.load(row + (rows[r] &+ j)), w, sums[r]) }
                j &+= T.lanes
            }
        } else {
            for r in 0..<4 {
                var sum = T.Vector.zero
                j = 0
                while j < whole {
                    sum = T._fma(T.load(row + (rows[r] &+ j)), T.load(weight + j), sum)
                    j &+= T.lanes
                }
                sums[r] = sum
            }
        }
        if whole < inputs {
            let left = inputs &- whole
            let w = T._loadPartial(weight + whole, left)
            for r in 0..<4 { sums[r] = T._fma(T._loadPartial(row + (rows[r] &+ whole), left), w, sums[r]) }
        }
        return sums
    }
}
