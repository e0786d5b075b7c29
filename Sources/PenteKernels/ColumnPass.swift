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
        let repeated = Self.isDense(x) ? T._repeat(T._loadPartial(weight, x.columns), x.columns) : .zero
        let gradients = error.gradPrediction!.base
        var sums = product!.y.base
        var biasSum = columnSums!
        var chains = InlineArray<4, Double>(repeating: 0)
        var total = error.total!
        var first = 0
        while first < rows {
            // Rows that stay in the first-level cache: up to four runs of the gradient's terms, or one.
            let inBlock = first % rowsPerBlock
            let most = x.columns <= T.lanes ? 4 &* stepsPerRun : stepsPerRun
            let count = min(most, min(rowsPerBlock &- inBlock, rows &- first))
            var i = 0
            while i < count {
                // A block of the loss's.
                var squares = WideSums()
                let end = min(i &+ SquaredError<T>.rowsPerBlock, count)
                while i < end {
                    let left = min(end &- i, T.lanes)
                    var y: T.Vector
                    if Self.isDense(x) && left == T.lanes {
                        // The lanes that a row does not have would be added, too: −0 becomes 0.
                        y = Self.predictDense(x.base + (first &+ i) &* x.columns, x.columns, repeated) + .zero + bias
                    } else {
                        y = T._firstLanes(Self.predict(x, first &+ i, left, weight) + bias, left)
                    }
                    let difference = y - T.load(error.target.base + (first &+ i), upTo: left)
                    T._addSquares(difference, weight: nil, to: &squares)
                    T.store(difference * scale, gradients + i, upTo: left)
                    i &+= T.lanes
                }
                total.pointee += squares.total
                total += error.totalStep
            }
            i = 0
            while i &+ 4 <= count {
                for r in 0..<4 { chains[r] += Double(gradients[i &+ r]) }
                i &+= 4
            }
            for r in 0..<3 { if i &+ r < count { chains[r] += Double(gradients[i &+ r]) } }
            let part = x.rows(first, count)
            if x.columns <= T.lanes {
                Self.addRuns(gradients, part, to: sums, isNew: inBlock == 0)
            } else {
                Self.addRun(gradients, part, to: sums, isNew: inBlock == 0)
            }
            first &+= count
            if first == rows || first % rowsPerBlock == 0 {
                let bias = (chains[0] + chains[1]) + (chains[2] + chains[3])
                if let wide = biasSum.wide { wide[0] += bias } else { biasSum.sums[0] = T(bias) }
                product!.widen()
                sums += sumsStep
                biasSum.advance(by: sumsStep)
                chains = InlineArray<4, Double>(repeating: 0)
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
                for r in 0..<x.rows {
                    let g = T.Vector(repeating: gradients[r])
                    sum = T._fma(g, T.load(row, upTo: left), sum)
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

    /// Four runs side by side, so that no term waits for the last, of a vector of inputs or less.
    @_alwaysEmitIntoClient @_transparent
    static func addRuns(
        _ gradients: UnsafePointer<T>, _ x: MatrixView<T>, to sums: UnsafeMutablePointer<T>, isNew: Bool
    ) {
        let whole = x.rows / stepsPerRun
        var first = 0
        if whole > 1 {
            var runs = InlineArray<4, T.Vector>(repeating: .zero)
            // Without a run, the last one once more.
            var starts = InlineArray<4, Int>(repeating: 0)
            for r in 1..<4 { starts[r] = min(r, whole &- 1) &* stepsPerRun }
            var row = x.base
            if x.columns <= 4 {
                for s in 0..<stepsPerRun {
                    for r in 0..<4 {
                        let g = T.Vector(repeating: gradients[starts[r] &+ s])
                        runs[r] = T._fma(g, T._loadFour(row + starts[r] &* x.rowStride, x.columns), runs[r])
                    }
                    row += x.rowStride
                }
            } else {
                for s in 0..<stepsPerRun {
                    for r in 0..<4 {
                        let g = T.Vector(repeating: gradients[starts[r] &+ s])
                        runs[r] = T._fma(g, T._loadPartial(row + starts[r] &* x.rowStride, x.columns), runs[r])
                    }
                    row += x.rowStride
                }
            }
            var sum = runs[0] + runs[1]
            for r in 2..<4 { if r < whole { sum += runs[r] } }
            if !isNew { sum += T._loadPartial(sums, x.columns) }
            T._storePartial(sum, sums, x.columns)
            first = whole &* stepsPerRun
        }
        while first < x.rows {
            let run = x.rows(first, min(stepsPerRun, x.rows &- first))
            addRun(gradients + first, run, to: sums, isNew: isNew && first == 0)
            first &+= stepsPerRun
        }
    }

    /// Rows of 1, 2 or 4 numbers one behind another: a vector holds several.
    @_alwaysEmitIntoClient @_transparent
    static func isDense(_ x: MatrixView<T>) -> Bool {
        x.isContiguous && (x.columns == 1 || x.columns == 2 || x.columns == 4)
    }

    /// `predict` for them.
    @_alwaysEmitIntoClient @_transparent
    static func predictDense(_ x: UnsafePointer<T>, _ inputs: Int, _ weight: T.Vector) -> T.Vector {
        let first = T._fma(T.load(x), weight, .zero)
        if inputs == 1 { return first }
        let second = T._fma(T.load(x + T.lanes), weight, .zero)
        if inputs == 2 { return T._sumsOfTwo(first, second) }
        let third = T._fma(T.load(x + 2 &* T.lanes), weight, .zero)
        return T._sumsOfFour(first, second, third, T._fma(T.load(x + 3 &* T.lanes), weight, .zero))
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
