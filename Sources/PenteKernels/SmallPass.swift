// The smallest of steps, a linear layer with one output and no more inputs than a vector has lanes, is all latency: it goes
// without the memory between the stages, sixteen rows at a time, with the same operations in the same order.

extension Pass {
    /// Whether `runSmall` does it.
    @_alwaysEmitIntoClient @_transparent
    var isSmall: Bool {
        guard let forward, let error = error?.pointee, let product, columnSums != nil, product.wide == nil else {
            return false
        }
        return forward.x.columns <= T.lanes && forward.weight.rows == 1 && rows <= rowsPerBlock
            && error.sampleWeight == nil && error.target.rowStride == 1
    }

    @_alwaysEmitIntoClient @_transparent
    func runSmall() {
        let error = error!.pointee
        let x = forward!.x
        let inputs = x.columns
        let weight = T.load(forward!.weight.base, upTo: inputs)
        let bias = T.Vector(repeating: forward!.bias![0])
        let scale = T.Vector(repeating: error.scale)
        var gradWeight = T.Vector.zero
        var chains = InlineArray<4, T>(repeating: 0)
        var squares = WideSums()
        var total = error.total!.pointee
        var first = 0
        while first < rows {
            let count = min(rows &- first, T.lanes)
            let from = x.base + first &* x.rowStride
            var y = T.Vector.zero
            if count == 1 {
                y[0] = T._sum(T._fma(T.load(from, upTo: inputs), weight, T.Vector.zero))
            } else {
                var products = InlineArray<16, T.Vector>(repeating: .zero)
                for r in 0..<T.lanes {
                    let row = from + min(r, count &- 1) &* x.rowStride
                    products[r] = T._fma(T.load(row, upTo: inputs), weight, T.Vector.zero)
                }
                y = T._sums(products, from: 0)
            }
            let target = T.load(error.target.base + first, upTo: count)
            let difference = T._firstLanes(y + bias - target, count)
            T._addSquares(difference, weight: nil, to: &squares)
            let gradient = difference * scale
            var gradients = InlineArray<16, T>(repeating: 0)
            T._store(gradient, to: &gradients)
            for r in 0..<count {
                let g = gradients[r]
                gradWeight = T._fma(
                    T.Vector(repeating: g), T.load(from + r &* x.rowStride, upTo: inputs), gradWeight)
                chains[r & 3] += g
            }
            first &+= count
            if first == rows || first % SquaredError<T>.rowsPerBlock == 0 {
                total += squares.total
                squares = WideSums()
            }
        }
        error.total!.pointee = total
        T.store(gradWeight, product!.y.base, upTo: inputs)
        columnSums!.sums[0] = (chains[0] + chains[1]) + (chains[2] + chains[3])
    }
}
