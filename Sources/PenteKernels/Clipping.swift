/// What clips gradients by their norm: the sum of a gradient's squares, or its product with a number.
public struct Clipping<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var gradient: UnsafePointer<T>
    @usableFromInline var count: Int
    /// Where the products go; nil: there are none.
    @usableFromInline var products: UnsafeMutablePointer<T>?
    @usableFromInline var factor: T
    /// Of the squares, in float64, if there are no products.
    public var sum = 0.0

    /// For a gradient of `count` numbers; the factor is that of the products, if there are any.
    @inlinable @inline(__always)
    public init(_ gradient: UnsafePointer<T>, count: Int, products: UnsafeMutablePointer<T>?, factor: T) {
        self.gradient = gradient
        self.count = count
        self.products = products
        self.factor = factor
    }

    @_alwaysEmitIntoClient @_transparent
    mutating func run<V: KernelVector<T>>(_ vector: V.Type) {
        var e = 0
        if let products {
            while e < count {
                let left = count &- e
                // As if 0 had been there, and the gradient been added.
                let number = V(repeating: 0) + V._load(gradient + e, upTo: left)
                V._store(number * V(repeating: factor), products + e, upTo: left)
                e &+= V._lanes
            }
        } else {
            var squares = WideSums()
            while e < count {
                V._addSquares(V._load(gradient + e, upTo: count &- e), weight: nil, to: &squares, e)
                e &+= V._lanes
            }
            sum = squares.total
        }
    }
}
