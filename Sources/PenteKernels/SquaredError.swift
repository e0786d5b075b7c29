/// The squares of a loss and their derivatives, for a block of rows, in one pass. Whatever is nil is not computed.
///
/// With d = prediction − target and v the row's weight (1 without weights): a square is v d², the gradient with respect
/// to the prediction is scale · v · d · upstream, and its negative is the one with respect to the target.
public struct SquaredError<T: KernelScalar>: BitwiseCopyable {
    /// The loss is added up in blocks of so many rows: float64 lanes within a block, one sum over the blocks.
    @inlinable public static var rowsPerBlock: Int { 64 }

    public var prediction: MatrixView<T>
    public var target: MatrixView<T>
    /// One column: a weight for each row.
    public var sampleWeight: MatrixView<T>?
    public var scale: T = 0
    public var upstream: MatrixView<T>?
    public var gradPrediction: MutableMatrixView<T>?
    public var gradTarget: MutableMatrixView<T>?
    public var squares: MutableMatrixView<T>?
    /// The sum of the squares is added to it.
    public var total: UnsafeMutablePointer<Double>?
    /// From the total of a block of rows to the next one's.
    public var totalStep = 0

    @inlinable @inline(__always)
    public init(prediction: MatrixView<T>, target: MatrixView<T>, sampleWeight: MatrixView<T>?) {
        self.prediction = prediction
        self.target = target
        self.sampleWeight = sampleWeight
    }

    @_alwaysEmitIntoClient @_transparent
    func run() {
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
                element(e, min(end &- e, T.lanes), &sums)
                e &+= T.lanes
            }
            if let sum = total {
                sum.pointee += sums.total
                total = sum + totalStep
            }
            first = end
        }
    }

    /// The elements `e ..< e + count` in row-major order, at most a vector's.
    @_alwaysEmitIntoClient @_transparent
    func element(_ e: Int, _ count: Int, _ sums: inout WideSums) {
        let difference = load(prediction, e, count) - load(target, e, count)
        var weight: T.Vector?
        if let sampleWeight { weight = load(sampleWeight, e, count) }
        if total != nil { T._addSquares(difference, weight: weight, to: &sums) }
        if let squares {
            var square = difference * difference
            if let weight { square *= weight }
            store(square, squares, e, count)
        }
        guard gradPrediction != nil || gradTarget != nil else { return }
        var gradient = difference * T.Vector(repeating: scale)
        if let weight { gradient *= weight }
        if let upstream { gradient *= load(upstream, e, count) }
        if let gradPrediction { store(gradient, gradPrediction, e, count) }
        if let gradTarget { store(gradient * T.Vector(repeating: -1), gradTarget, e, count) }
    }

    /// Elements by their number in a contiguous prediction, from a view that need not be contiguous itself, or that
    /// has one column for all of the prediction's: the same lanes, and so the same sums, for any stride.
    @_alwaysEmitIntoClient @_transparent
    func load(_ view: MatrixView<T>, _ e: Int, _ count: Int) -> T.Vector {
        if view.isContiguous && view.columns == prediction.columns { return T.load(view.base + e, upTo: count) }
        var vector = T.Vector.zero
        withUnsafeMutablePointer(to: &vector) {
            T._gather(view, e, count, prediction.columns, into: UnsafeMutableRawPointer($0))
        }
        return vector
    }

    @_alwaysEmitIntoClient @_transparent
    func store(_ vector: T.Vector, _ view: MutableMatrixView<T>, _ e: Int, _ count: Int) {
        if view.rowStride == prediction.columns { return T.store(vector, view.base + e, upTo: count) }
        withUnsafePointer(to: vector) { T._scatter(UnsafeRawPointer($0), view, e, count) }
    }
}
