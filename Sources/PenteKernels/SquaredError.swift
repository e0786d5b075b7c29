/// The squares of a loss and their derivatives, for a block of rows, in one pass. Whatever is nil is not computed.
///
/// With d = prediction − target and v the row's weight (1 without weights): a square is v d², the gradient with respect
/// to the prediction is scale · v · d · upstream, and its negative is the one with respect to the target.
public struct SquaredError<T: KernelScalar>: BitwiseCopyable {
    /// The loss is added up in blocks of so many rows: float64 lanes within a block, one compensated sum over the blocks.
    @inlinable public static var rowsPerBlock: Int { 64 }

    /// q×p, as the target and all that is written.
    public var prediction: MatrixView<T>
    /// What the prediction should be.
    public var target: MatrixView<T>
    /// One column: a weight for each row.
    public var sampleWeight: MatrixView<T>?
    /// 2/N, which the gradients are multiplied by.
    public var scale: T = 0
    /// What they are multiplied by besides, element by element.
    public var upstream: MatrixView<T>?
    /// The gradient with respect to the prediction, if it is wanted.
    public var gradPrediction: MutableMatrixView<T>?
    /// Likewise the one with respect to the target.
    public var gradTarget: MutableMatrixView<T>?
    /// Likewise the squares themselves.
    public var squares: MutableMatrixView<T>?
    /// The sum of the squares is added to it.
    public var total: UnsafeMutablePointer<CompensatedSum>?
    /// From the total of a block of rows to the next one's.
    public var totalStep = 0

    /// Nothing is wanted of it yet.
    @inlinable @inline(__always)
    public init(prediction: MatrixView<T>, target: MatrixView<T>, sampleWeight: MatrixView<T>?) {
        assert(prediction.columns == target.columns && prediction.rows <= target.rows, "shapes of a loss")
        self.prediction = prediction
        self.target = target
        self.sampleWeight = sampleWeight
    }

    @_alwaysEmitIntoClient @_transparent
    func run<V: KernelVector<T>>(_ vector: V.Type) {
        let columns = prediction.columns
        let count = prediction.rows &* columns
        let perBlock = Self.rowsPerBlock &* columns
        var total = self.total
        var first = 0
        while first < count {
            let end = min(first &+ perBlock, count)
            var sums = WideSums()
            var e = first
            while e < end {
                element(e, min(end &- e, V._lanes), vector, &sums, e &- first)
                e &+= V._lanes
            }
            if let sum = total {
                sum.pointee.addByCall(sums.total)
                total = sum + totalStep
            }
            first = end
        }
    }

    /// The elements `e ..< e + count` in row-major order, at most a vector's.
    @_alwaysEmitIntoClient @_transparent
    func element<V: KernelVector<T>>(
        _ e: Int, _ count: Int, _ vector: V.Type, _ sums: inout WideSums, _ lane: Int
    ) {
        let columns = prediction.columns
        let difference = V._load(prediction, e, count, columns) - V._load(target, e, count, columns)
        var weight: V?
        if let sampleWeight { weight = V._load(sampleWeight, e, count, columns) }
        if total != nil { V._addSquares(difference, weight: weight, to: &sums, lane) }
        if let squares {
            var square = difference * difference
            if let weight { square = square * weight }
            V._store(square, squares, e, count)
        }
        guard gradPrediction != nil || gradTarget != nil else { return }
        var gradient = difference * V(repeating: scale)
        if let weight { gradient = gradient * weight }
        if let upstream { gradient = gradient * V._load(upstream, e, count, columns) }
        if let gradPrediction { V._store(gradient, gradPrediction, e, count) }
        if let gradTarget { V._store(gradient * V(repeating: -1), gradTarget, e, count) }
    }
}

extension KernelVector {
    /// Elements by their number in a matrix of so many columns, from a view that need not be contiguous itself, or that
    /// has one column for all of the matrix's: the same lanes, and so the same sums, for any stride.
    @_alwaysEmitIntoClient @_transparent
    static func _load(_ view: MatrixView<Scalar>, _ e: Int, _ count: Int, _ columns: Int) -> Self {
        if view.isContiguous && view.columns == columns { return _load(view.base + e, upTo: count) }
        var vector = Self(repeating: 0)
        withUnsafeMutablePointer(to: &vector) {
            Scalar._gather(view, e, count, columns, into: UnsafeMutableRawPointer($0))
        }
        return vector
    }

    @_alwaysEmitIntoClient @_transparent
    static func _store(_ vector: Self, _ view: MutableMatrixView<Scalar>, _ e: Int, _ count: Int) {
        if view.rowStride == view.columns { return _store(vector, view.base + e, upTo: count) }
        withUnsafePointer(to: vector) { Scalar._scatter(UnsafeRawPointer($0), view, e, count) }
    }
}
