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
        let inputs = x.columns
        let weight = forward!.weight.base
        let bias = T.Vector(repeating: forward!.bias![0])
        let scale = T.Vector(repeating: error.scale)
        var sums = product!.y.base
        var biasSum = columnSums!
        var chains = InlineArray<4, Double>(repeating: 0)
        var total = error.total!
        var first = 0
        var end = min(rows, rowsPerBlock)
        var isNew = true
        while first < rows {
            // A run of the gradient's terms, and a block of the loss's.
            let count = min(end &- first, stepsPerRun)
            let from = x.base + first &* x.rowStride
            var gradients = InlineArray<64, T>(repeating: 0)
            var squares = WideSums()
            var i = 0
            while i < count {
                let left = min(count &- i, T.lanes)
                let y = T._firstLanes(Self.predict(x, first &+ i, left, weight) + bias, left)
                let difference = y - T.load(error.target.base + (first &+ i), upTo: left)
                T._addSquares(difference, weight: nil, to: &squares)
                T._store(difference * scale, to: &gradients, at: i)
                i &+= T.lanes
            }
            total.pointee += squares.total
            total += error.totalStep
            i = 0
            while i < count {
                for r in 0..<4 { chains[r] += Double(gradients[i &+ r]) }
                i &+= 4
            }
            var j = 0
            while j < inputs {
                let (left, left2) = (inputs &- j, inputs &- j &- T.lanes)
                var (sum, sum2) = (T.Vector.zero, T.Vector.zero)
                var row = from + j
                if left2 >= T.lanes {
                    for r in 0..<count {
                        let g = T.Vector(repeating: gradients[r])
                        sum = T._fma(g, T.load(row), sum)
                        sum2 = T._fma(g, T.load(row + T.lanes), sum2)
                        row += x.rowStride
                    }
                } else {
                    for r in 0..<count {
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
            isNew = false
            first &+= count
            if first == end {
                endBlock(sums, inputs, biasSum, (chains[0] + chains[1]) + (chains[2] + chains[3]))
                sums += sumsStep
                biasSum.advance(by: sumsStep)
                end = min(rows, end &+ rowsPerBlock)
                isNew = true
                chains = InlineArray<4, Double>(repeating: 0)
            }
        }
    }

    /// The sums of a block go where they are wanted.
    @_alwaysEmitIntoClient @_transparent
    func endBlock(_ sums: UnsafeMutablePointer<T>, _ inputs: Int, _ biasSum: ColumnSums<T>, _ bias: Double) {
        if let wide = biasSum.wide { wide[0] += bias } else { biasSum.sums[0] = T(bias) }
        guard let wide = product!.wide else { return }
        var j = 0
        while j < inputs {
            T._add(T.load(sums + j, upTo: inputs &- j), to: wide + j, inputs &- j)
            j &+= T.lanes
        }
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
        return T._sums(products, from: 0)
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
