import PenteKernels

// A step whose batch lies in several places: machines, processes, or turns of one. Each adds up the gradients of its rows;
// the sums of all, added element by element, are those of the whole batch.

/// What a trainer has accumulated: of the *sum* of the squares, weighted and not yet divided, the gradient with respect to
/// each trained parameter; that sum itself; the rows, or the sum of their weights; and the same times the columns of y.
final class AccumulatedSums {
    let numbers: Buffer<Double>

    private init(_ numbers: consuming Buffer<Double>) { self.numbers = numbers }

    static func make(count: Int) throws(PenteError) -> AccumulatedSums { AccumulatedSums(try Buffer(count: count)) }

    // Behind the gradients.
    private var tail: UnsafeMutablePointer<Double> { numbers.base + numbers.count - 3 }
    var total: Double { tail[0] }
    var rows: Double { tail[1] }
    var elements: Double { tail[2] }

    func add(total: Double, rows: Double, columns: Int) {
        tail[0] += total
        tail[1] += rows
        tail[2] += rows * Double(columns)
    }
}

extension MSE {
    /// As `divisor(rows:columns:)` has it.
    fileprivate func divisor(_ sums: AccumulatedSums) -> Double {
        switch reduction {
        case .mean: sums.elements
        case .batchMean: sums.rows
        case .outputMean: sums.elements / sums.rows
        case .sum, .none: 1
        }
    }
}

extension Trainer {
    /// How many numbers `sums` has: one for each number of the layer's trained parameters, in their order, and three.
    public var sumCount: Int { layer.trainedCount + 3 }

    /// Adds the rows' gradients to those that are accumulated already; the layer stays as it is.
    ///
    /// x is q × inputs, y q × outputs and `sampleWeight` q×1, all of which may be 0. Several calls make one batch, of
    /// rows for which there is no room at once. Throws as ``step(_:_:sampleWeight:)`` does, and has added nothing then.
    public func accumulate(
        _ x: Matrix<Element>, _ y: Matrix<Element>, sampleWeight: Matrix<Element>? = nil
    ) throws(PenteError) {
        try withExamples(x, y, sampleWeight) { (examples) throws(PenteError) in try accumulate(examples) }
    }

    package func accumulate(_ examples: Examples<Element>) throws(PenteError) {
        try require(examples)
        let rows = try mse.sumOfWeights(examples.sampleWeight, rows: examples.count)
        if rows == 0 { return }
        let sums = try requireSums()
        let total = try addGradients(examples, rows: rows, to: sums.numbers.base)
        sums.add(total: total, rows: rows, columns: examples.y.columns)
    }

    /// What is accumulated, as one array: the gradients of the *sum* of all squares, that sum, the number of rows (or the
    /// sum of their weights), and the same times y's columns.
    ///
    /// Arrays of several trainers of the same layer, added element by element, are those of all rows together: set them,
    /// and ``applySums()`` is the step of the whole batch. Setting throws `.invalidArgument` for another number of elements, for
    /// one that is not finite, and for a negative number of rows.
    public var sums: [Double] {
        guard let sums = accumulated else { return [Double](repeating: 0, count: sumCount) }
        return Array(UnsafeBufferPointer(start: sums.numbers.base, count: sumCount))
    }

    /// Replaces what is accumulated; see ``sums``. An empty array: by nothing.
    public func setSums(_ sums: [Double]) throws(PenteError) {
        try sums.withUnsafeBufferPointer { (sums) throws(PenteError) in try setSums(sums) }
    }

    package func setSums(_ sums: UnsafeBufferPointer<Double>) throws(PenteError) {
        if sums.isEmpty {
            accumulated?.numbers.zero()
            return
        }
        try requireSumCount(sums.count)
        for (i, number) in sums.enumerated() where !number.isFinite || i >= sums.count - 2 && number < 0 {
            throw PenteError(
                .invalidArgument,
                "sums[\(i)] is \(number); it must be finite\(i >= sums.count - 2 ? " and not negative" : "")")
        }
        try requireSums().numbers.copy(from: sums.baseAddress!)
    }

    /// Copies what is accumulated to `count` numbers.
    package func getSums(_ numbers: UnsafeMutablePointer<Double>, count: Int) throws(PenteError) {
        try requireSumCount(count)
        for i in 0..<count { numbers[i] = accumulated?.numbers.base[i] ?? 0 }
    }

    package func requireSumCount(_ count: Int) throws(PenteError) {
        if count != sumCount {
            throw PenteError(.invalidArgument, "the sums' count is \(count), but the trainer has \(sumCount) of them")
        }
    }

    private func requireSums() throws(PenteError) -> AccumulatedSums {
        if let accumulated { return accumulated }
        let sums = try AccumulatedSums.make(count: sumCount)
        accumulated = sums
        return sums
    }

    /// The step of the batch that is accumulated: as ``step(_:_:sampleWeight:)`` of all its rows, but for rounding. The
    /// gradients are left in the layer, and nothing is accumulated then; returns the loss before the update.
    ///
    /// Throws `.invalidState` if there are no rows, and as `step` does; nothing has changed then.
    @discardableResult
    public func applySums() throws(PenteError) -> Double {
        guard let sums = accumulated, sums.rows > 0 else {
            throw PenteError(.invalidState, "nothing is accumulated: there are no rows to learn from")
        }
        let loss = try step(gradients: sums.numbers.base, total: sums.total, divisor: mse.divisor(sums))
        sums.numbers.zero()
        return loss
    }
}
