extension Pass {
    /// The operation for a pass that stays where it is, and whose x and target alone change places.
    @inlinable
    public static func operation(_ pass: UnsafePointer<Pass>) -> KernelOperation<T> { .pass(pass) }

    /// The same for other rows of as many numbers.
    @inlinable @inline(__always)
    public mutating func place(_ x: MatrixView<T>) {
        forward!.x.base = x.base
        forward!.x.rowStride = x.rowStride
        product!.b = x.base
        product!.bStep = x.rowStride
    }
}
