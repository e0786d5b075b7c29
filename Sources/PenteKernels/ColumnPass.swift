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
        let isSmall = inputs <= T.lanes
        let weight = forward!.weight.base
        let bias = T.Vector(repeating: forward!.bias![0])
        let scale = T.Vector(repeating: error.scale)
        let sums = product!.y.base
        var smallSum = T.Vector.zero
        var chains = InlineArray<4, T>(repeating: 0)
        var squares = WideSums()
        var total = error.total!.pointee
        var first = 0
        var end = min(rows, rowsPerBlock)
        var isNew = true
        while first < rows {
            let count = min(end &- first, T.lanes)
            let from = x.base + first &* x.rowStride
            var y = T.Vector.zero
            if count == 1 {
                y[0] = T._sum(Self.dot(from, 0, 1, weight, inputs)[0])
            } else {
                var products = InlineArray<16, T.Vector>(repeating: .zero)
                var r = 0
                while r < count {
                    let four = Self.dot(from + r &* x.rowStride, x.rowStride, count &- r, weight, inputs)
                    for i in 0..<4 { products[r &+ i] = four[i] }
                    r &+= 4
                }
                y = T._sums(products, from: 0)
            }
            let target = T.load(error.target.base + first, upTo: count)
            let difference = T._firstLanes(y + bias - target, count)
            T._addSquares(difference, weight: nil, to: &squares)
            var gradients = InlineArray<16, T>(repeating: 0)
            T._store(difference * scale, to: &gradients)
            var r = 0
            while r < count {
                for i in 0..<4 { chains[i] += gradients[r &+ i] }
                r &+= 4
            }
            if isSmall {
                for r in 0..<count {
                    let row = T.load(from + r &* x.rowStride, upTo: inputs)
                    smallSum = T._fma(T.Vector(repeating: gradients[r]), row, smallSum)
                }
            } else {
                var j = 0
                while j < inputs {
                    let (left, left2) = (inputs &- j, inputs &- j &- T.lanes)
                    var sum = isNew ? T.Vector.zero : T.load(sums + j, upTo: left)
                    var sum2 = isNew || left2 <= 0 ? T.Vector.zero : T.load(sums + (j &+ T.lanes), upTo: left2)
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
                    T.store(sum, sums + j, upTo: left)
                    if left2 > 0 { T.store(sum2, sums + (j &+ T.lanes), upTo: left2) }
                    j &+= 2 &* T.lanes
                }
            }
            isNew = false
            first &+= count
            if first == end || first % SquaredError<T>.rowsPerBlock == 0 {
                total += squares.total
                squares = WideSums()
            }
            if first == end {
                if isSmall { T.store(smallSum, sums, upTo: inputs) }
                let biasSum = (chains[0] + chains[1]) + (chains[2] + chains[3])
                if let wide = product!.wide {
                    var j = 0
                    while j < inputs {
                        T._add(T.load(sums + j, upTo: inputs &- j), to: wide + j, inputs &- j)
                        j &+= T.lanes
                    }
                    columnSums!.wide![0] += Double(biasSum)
                } else {
                    columnSums!.sums[0] = biasSum
                }
                end = min(rows, end &+ rowsPerBlock)
                isNew = true
                smallSum = T.Vector.zero
                chains = InlineArray<4, T>(repeating: 0)
            }
        }
        error.total!.pointee = total
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
