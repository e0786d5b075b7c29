// A training step of one row and one output is no more than its latencies: it has a kernel of its own, without what blocks of
// rows take. The bits are those of `Pass.run`.

extension Pass {
    /// The operation for a pass that stays where it is, and whose x and target alone change places.
    @inlinable
    public static func operation(_ pass: UnsafePointer<Pass>) -> KernelOperation<T> {
        pass.pointee.isRow ? .row(pass) : .pass(pass)
    }

    @inlinable var isRow: Bool {
        guard rows == 1, let forward, let error = error?.pointee, let product, columnSums != nil else { return false }
        return forward.weight.rows == 1 && error.sampleWeight == nil && product.wide == nil
    }

    /// The same for other rows of as many numbers.
    @inlinable @inline(__always)
    public mutating func place(_ x: MatrixView<T>) {
        forward!.x.base = x.base
        forward!.x.rowStride = x.rowStride
        product!.b = x.base
        product!.bStep = x.rowStride
    }

    @_alwaysEmitIntoClient @_transparent
    func runRow() {
        let (x, inputs, weight) = (forward!.x.base, forward!.x.columns, forward!.weight.base)
        let (error, sums) = (self.error!, product!.y.base)
        var products = T.Vector.zero
        var j = 0
        while j < inputs {
            let left = inputs &- j
            products = T._fma(T.load(x + j, upTo: left), T.load(weight + j, upTo: left), products)
            j &+= T.lanes
        }
        let difference = T._sum(products) + forward!.bias![0] - error.pointee.target.base[0]
        let gradient = difference * error.pointee.scale
        error.pointee.total!.pointee.value += Double(difference) * Double(difference)
        columnSums!.sums[0] = gradient + 0
        j = 0
        while j < inputs {
            let left = inputs &- j
            T.store(T._fma(T.Vector(repeating: gradient), T.load(x + j, upTo: left), .zero), sums + j, upTo: left)
            j &+= T.lanes
        }
    }
}
