import PenteKernels

/// One of a layer's parameters, by name, with its gradient.
public final class Parameter<Element: Scalar> {
    public let name: String
    public let rows: Int
    public let columns: Int
    package let values: Buffer<Element>
    package let gradients: Buffer<Element>

    // Embedded Swift loses an object whose initializer throws: here, as in `Linear`, `SGD` and `Trainer`, what can fail
    // is done by `make` before there is an object.
    package static func make(name: String, rows: Int, columns: Int) throws(PenteError) -> Parameter {
        let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
        if overflow { throw .outOfMemory }
        let values = try Buffer<Element>(count: count)
        let gradients = try Buffer<Element>(count: count)
        return Parameter(name: name, rows: rows, columns: columns, values: values, gradients: gradients)
    }

    private init(
        name: String, rows: Int, columns: Int, values: consuming Buffer<Element>,
        gradients: consuming Buffer<Element>
    ) {
        self.name = name
        self.rows = rows
        self.columns = columns
        self.values = values
        self.gradients = gradients
    }

    /// The parameter's value, a copy.
    public var value: Matrix<Element> { Matrix(copying: view) }

    /// The parameter's gradient, a copy: rows × columns, as the parameter.
    public var gradient: Matrix<Element> { Matrix(copying: gradientView) }

    /// Replaces the value by a matrix of the same shape.
    public func setValue(_ value: Matrix<Element>) throws(PenteError) {
        guard value.rows == rows, value.columns == columns else {
            throw PenteError(.shapeMismatch, "value is \(value.rows, value.columns), but \(name) is \(rows, columns)")
        }
        values.copy(from: value.elements)
    }

    package func fillUniform(bound: Double, from generator: inout MersenneTwister) {
        for e in 0..<count { values.base[e] = generator.uniform(bound: bound, as: Element.self) }
    }

    package var count: Int { values.count }
    package var view: MatrixView<Element> { MatrixView(values.base, rows: rows, columns: columns) }
    package var gradientView: MatrixView<Element> { MatrixView(gradients.base, rows: rows, columns: columns) }
}
