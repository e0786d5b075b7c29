import PenteKernels
import PenteSystem

/// Where the rows of a fit come from that are not in memory: files, or what you make of anything.
///
/// A fit reads it on a thread of its own, ahead of the arithmetic. One fit at a time reads a source.
public class DataSource<Element: Scalar> {
    /// The columns of x.
    public final let inputs: Int
    /// The columns of y.
    public final let outputs: Int
    /// Whether its rows have sample weights.
    public final let hasSampleWeight: Bool
    /// How many there are; nil: whoever reads to the end knows, and there is no other order than its own.
    public final let rows: Int?

    package init(inputs: Int, outputs: Int, hasSampleWeight: Bool, rows: Int?) {
        self.inputs = inputs
        self.outputs = outputs
        self.hasSampleWeight = hasSampleWeight
        self.rows = rows
    }

    /// Of x, y and the sample weight.
    final var elementsPerRow: Int { inputs + outputs + (hasSampleWeight ? 1 : 0) }

    /// Fills `batch` with rows from `first` on, with as many as there are and it has room for, at least one, and returns how
    /// many; 0: there are no more. Without a known number of rows `first` is where the last call ended, or 0.
    package func read(_ first: Int, into batch: MutableExamples<Element>) throws(PenteError) -> Int {
        fatalError("a source reads")
    }

    /// The rows will be read soon.
    package func willRead(_ first: Int, _ count: Int) {}

    /// For a message: where a row of x, or of y, is from.
    package func place(ofRow row: Int, _ part: ExamplePart) -> Message { "row \(row) of \(part.name)" }

    package static func requireSizes(inputs: Int, outputs: Int, rows: Int?) throws(PenteError) {
        func require(_ value: Int, _ name: StaticString) throws(PenteError) {
            if value < 1 || value > 1 << 40 {
                throw PenteError(.invalidArgument, "\(name) is \(value); it must be from 1 to 2^40")
            }
        }
        try require(inputs, "inputs")
        try require(outputs, "outputs")
        if let rows, rows < 1 {
            throw PenteError(.invalidArgument, "rows is \(rows); it must be at least 1, or unknown")
        }
    }
}

/// What an example is made of.
package enum ExamplePart {
    case x, y, sampleWeight

    var name: StaticString {
        switch self {
        case .x: "x"
        case .y: "y"
        case .sampleWeight: "sample_weight"
        }
    }
}

/// Memory for rows of x, with what they should give.
package struct MutableExamples<Element: Scalar>: BitwiseCopyable {
    package let x: MutableMatrixView<Element>
    package let y: MutableMatrixView<Element>
    package let sampleWeight: MutableMatrixView<Element>?

    private init(
        _ x: MutableMatrixView<Element>, _ y: MutableMatrixView<Element>, _ sampleWeight: MutableMatrixView<Element>?
    ) {
        self.x = x
        self.y = y
        self.sampleWeight = sampleWeight
    }

    /// One behind the other.
    init(_ memory: UnsafeMutablePointer<Element>, rows: Int, _ source: DataSource<Element>) {
        let y = memory + rows * source.inputs
        self.init(
            MutableMatrixView(memory, rows: rows, columns: source.inputs),
            MutableMatrixView(y, rows: rows, columns: source.outputs),
            source.hasSampleWeight
                ? MutableMatrixView(y + rows * source.outputs, rows: rows, columns: 1) : nil)
    }

    package var count: Int { x.rows }

    package func rows(_ first: Int, _ count: Int) -> MutableExamples {
        MutableExamples(x.rows(first, count), y.rows(first, count), sampleWeight?.rows(first, count))
    }

    package var readOnly: Examples<Element> {
        Examples(x: x.readOnly, y: y.readOnly, sampleWeight: sampleWeight?.readOnly)
    }
}

/// Rows of x, with what they should give, as a ``BatchSource`` hands them over.
public struct Batch<Element: Scalar>: Sendable {
    /// q × inputs.
    public var x: Matrix<Element>
    /// q × outputs.
    public var y: Matrix<Element>
    /// q × 1, from a source that has sample weights; else nil.
    public var sampleWeight: Matrix<Element>?

    /// A batch of these rows, whose shapes the source looks at.
    public init(x: Matrix<Element>, y: Matrix<Element>, sampleWeight: Matrix<Element>? = nil) {
        self.x = x
        self.y = y
        self.sampleWeight = sampleWeight
    }
}

/// A source of your own making.
public final class BatchSource<Element: Scalar>: DataSource<Element> {
    /// Gives rows from number `first` on: at least one and at most `count`, or nil if there are none.
    public typealias Read = @Sendable (_ first: Int, _ count: Int) throws(PenteError) -> Batch<Element>?

    private let readBatch: Read

    /// `read` is called on a thread of the fit's, one call at a time. With `rows`, the number of all of them, it must give any
    /// of them in any order; without, they come from the first to the last, and so in each epoch, and are shuffled within
    /// the window alone. Throws `.invalidArgument` for sizes below 1; what `read` throws comes out of the fit.
    public init(
        inputs: Int, outputs: Int, hasSampleWeight: Bool = false, rows: Int? = nil, read: @escaping Read
    ) throws(PenteError) {
        try Self.requireSizes(inputs: inputs, outputs: outputs, rows: rows)
        readBatch = read
        super.init(inputs: inputs, outputs: outputs, hasSampleWeight: hasSampleWeight, rows: rows)
    }

    package override func read(_ first: Int, into target: MutableExamples<Element>) throws(PenteError) -> Int {
        guard let batch = try readBatch(first, target.count) else { return 0 }
        let count = batch.x.rows
        if count > target.count {
            throw PenteError(.shapeMismatch, "read gave \(count) rows, but at most \(target.count) were asked for")
        }
        try copy(batch.x, to: target.x.rows(0, count), "x")
        try copy(batch.y, to: target.y.rows(0, count), "y")
        if let sampleWeight = target.sampleWeight {
            guard let given = batch.sampleWeight else {
                throw PenteError(.invalidArgument, "read gave no sample_weight, which the source says that it has")
            }
            try copy(given, to: sampleWeight.rows(0, count), "sample_weight")
        }
        return count
    }

    private func copy(
        _ matrix: Matrix<Element>, to target: MutableMatrixView<Element>, _ name: StaticString
    ) throws(PenteError) {
        guard matrix.rows == target.rows, matrix.columns == target.columns else {
            throw PenteError(
                .shapeMismatch, "read gave a \(name) that is \(matrix.rows, matrix.columns), but \(target) was expected"
            )
        }
        try matrix.withView { view in target.copy(view) }
    }
}
