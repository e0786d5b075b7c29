import PenteKernels
import PenteSystem

/// One of a layer's parameters, by name, with its gradient. A chain knows its layers' parameters under longer names:
/// they are the same numbers in the same memory. It belongs to its layer's thread, or actor.
public final class Parameter<Element: Scalar> {
    /// As "weight", or in a chain as "0.weight".
    public let name: String
    /// Of the value and of the gradient.
    public let rows: Int
    /// Of the value and of the gradient.
    public let columns: Int
    /// 2; or 1 for a vector, of one row, as a bias is.
    public let rank: Int
    /// Whether an optimizer changes it. If not, its gradient stays 0.
    public let isTrained: Bool
    package let values: UnsafeMutablePointer<Element>
    package let gradients: UnsafeMutablePointer<Element>
    private let memory: Memory

    private final class Memory {
        let values: Buffer<Element>
        let gradients: Buffer<Element>

        init(_ values: consuming Buffer<Element>, _ gradients: consuming Buffer<Element>) {
            self.values = values
            self.gradients = gradients
        }
    }

    /// A parameter that begins as `value`, of one row if its rank is 1, for a `CustomLayer`.
    ///
    /// Throws `.invalidArgument` for another rank, and `.outOfMemory`.
    public convenience init(name: String, value: Matrix<Element>, rank: Int = 2) throws(PenteError) {
        try requireRank(rank, rows: value.rows, name)
        let memory = try Self.makeMemory(value.rows, value.columns)
        self.init(memory, name: name, rows: value.rows, columns: value.columns, rank: rank, isTrained: true)
        values.copy(value.elements, count: count)
    }

    // Embedded Swift loses an object whose initializer throws: here, as in `Linear`, `SGD` and `Trainer`, what can fail
    // is done by `make` before there is an object.
    package static func make(
        name: String, rows: Int, columns: Int, rank: Int = 2, isTrained: Bool = true
    ) throws(PenteError) -> Parameter {
        try requireRank(rank, rows: rows, name)
        return Parameter(
            try makeMemory(rows, columns), name: name, rows: rows, columns: columns, rank: rank, isTrained: isTrained)
    }

    /// The same parameter under another name.
    package func named(_ name: String) -> Parameter {
        Parameter(memory, name: name, rows: rows, columns: columns, rank: rank, isTrained: isTrained)
    }

    private static func makeMemory(_ rows: Int, _ columns: Int) throws(PenteError) -> Memory {
        let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
        if overflow { throw .outOfMemory }
        let values = try Buffer<Element>(count: count)
        let gradients = try Buffer<Element>(count: count)
        return Memory(values, gradients)
    }

    private init(_ memory: Memory, name: String, rows: Int, columns: Int, rank: Int, isTrained: Bool) {
        self.memory = memory
        self.name = name
        self.rows = rows
        self.columns = columns
        self.rank = rank
        self.isTrained = isTrained
        values = memory.values.base
        gradients = memory.gradients.base
    }

    /// The parameter's value, a copy.
    public var value: Matrix<Element> { Matrix(copying: view) }

    /// The parameter's gradient, a copy: rows × columns, as the parameter.
    public var gradient: Matrix<Element> { Matrix(copying: gradientView) }

    /// Replaces the value by a matrix of the same shape. Throws `.shapeMismatch` for another.
    public func setValue(_ value: Matrix<Element>) throws(PenteError) {
        guard value.rows == rows, value.columns == columns else {
            throw PenteError(.shapeMismatch, "value is \(value.rows, value.columns), but \(name) is \(rows, columns)")
        }
        values.copy(value.elements, count: count)
    }

    @inline(never)
    package func requireShape(of value: MatrixView<Element>, _ valueName: Message) throws(PenteError) {
        if value.rows != rows || value.columns != columns {
            throw PenteError(.shapeMismatch, "\(valueName) is \(value), but \(name) is \(rows, columns)")
        }
    }

    package func zeroGradients() { memset(gradients, 0, count &* MemoryLayout<Element>.size) }

    package func fillUniform(bound: Double, from generator: inout MersenneTwister) {
        for e in 0..<count { values[e] = generator.uniform(bound: bound, as: Element.self) }
    }

    /// Whether both are names of the same numbers.
    package func isSame(as other: Parameter) -> Bool { values == other.values }

    package var count: Int { rows &* columns }
    package var view: MatrixView<Element> { MatrixView(values, rows: rows, columns: columns) }
    package var gradientView: MatrixView<Element> { MatrixView(gradients, rows: rows, columns: columns) }
}

@inline(never)
private func requireRank(_ rank: Int, rows: Int, _ name: String) throws(PenteError) {
    guard rank == 2 || rank == 1 && rows == 1 else {
        throw PenteError(
            .invalidArgument, "\(name) has rank \(rank) and \(rows) rows; it must be 2, or 1 for a vector of one row")
    }
}
