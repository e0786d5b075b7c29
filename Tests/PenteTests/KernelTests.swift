import Foundation
import Pente
import PenteKernels
import Testing

#if arch(x86_64)
    import PenteKernelsAVX2
    import PenteKernelsAVX512
    import PenteSystem
#endif

/// The same numbers in every run (Steele, Lea and Flood, 2014).
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

@Suite struct KernelTests {
    /// Levels of kernels that this processor runs, by what performs an operation.
    static let floatLevels: [@Sendable (KernelOperation<Float>) -> Void] = {
        var levels: [@Sendable (KernelOperation<Float>) -> Void] = [{ performBaseline($0) }]
        #if arch(x86_64)
            if pente_processor_level() >= 1 { levels.append { performAVX2($0) } }
            if pente_processor_level() >= 2 { levels.append { performAVX512($0) } }
        #endif
        return levels
    }()

    static let doubleLevels: [@Sendable (KernelOperation<Double>) -> Void] = {
        var levels: [@Sendable (KernelOperation<Double>) -> Void] = [{ performBaseline($0) }]
        #if arch(x86_64)
            if pente_processor_level() >= 1 { levels.append { performAVX2($0) } }
            if pente_processor_level() >= 2 { levels.append { performAVX512($0) } }
        #endif
        return levels
    }()

    static let shapes = [
        (1, 1, 1), (1, 4, 1), (5, 1, 1), (3, 7, 2), (4, 16, 4), (9, 33, 5), (32, 10, 1), (67, 29, 5), (31, 64, 8),
        (13, 5, 37), (65, 130, 7), (200, 17, 3), (40, 300, 17), (300, 20, 150), (20, 1050, 260),
    ]

    @Test(arguments: shapes)
    func everyLevelGivesTheSameBits(_ q: Int, _ n: Int, _ p: Int) throws {
        try check(q, n, p, Self.floatLevels)
        try check(q, n, p, Self.doubleLevels)
    }

    private func check<T: Scalar>(_ q: Int, _ n: Int, _ p: Int, _ levels: [@Sendable (KernelOperation<T>) -> Void])
        throws
    {
        let results = try levels.map { try run(q, n, p, $0) }
        for result in results {
            for (i, first) in results[0].enumerated() {
                let isSame = result[i] == first  // a message with thousands of numbers would take minutes
                #expect(isSame, "result \(i)")
            }
        }
    }

    /// A matrix whose memory kernels may write.
    private final class Memory<T: Scalar> {
        let view: MutableMatrixView<T>

        /// With `columns`, a view of the first ones.
        init(_ matrix: Matrix<T>, columns: Int? = nil) {
            let count = matrix.rows * matrix.columns
            let base = UnsafeMutablePointer<T>.allocate(capacity: count)
            base.initialize(from: matrix.elements, count: count)
            view = MutableMatrixView(
                base, rows: matrix.rows, columns: columns ?? matrix.columns, rowStride: matrix.columns)
        }

        deinit { view.base.deallocate() }

        var bits: [UInt64] {
            (0..<view.rows * view.columns).map { Double(view.base[$0]).bitPattern }
        }
    }

    /// Every operation on the same numbers, at one level.
    private func run<T: Scalar>(
        _ q: Int, _ n: Int, _ p: Int, _ perform: (KernelOperation<T>) -> Void
    ) throws -> [[UInt64]] {
        func memory(_ rows: Int, _ columns: Int, _ seed: UInt64) throws -> Memory<T> {
            Memory(try random(rows, columns, seed: seed))
        }
        let x = try memory(q, n, 1), weight = try memory(p, n, 2), gradOutput = try memory(q, p, 3)
        let bias = try memory(1, p, 4), sampleWeight = try memory(q, 1, 5), y = try memory(q, p, 6)
        let gradInput = try memory(q, n, 7), gradWeight = try memory(p, n, 8), gradBias = try memory(1, p, 9)
        let gradPrediction = try memory(q, p, 10), momentum = try memory(p, n, 11)
        let g = gradOutput.view.readOnly
        var total = CompensatedSum()
        func run(_ pass: Pass<T>) { withUnsafePointer(to: pass) { perform(.pass($0)) } }
        let transposed = try memory(q, p, 12), scratch = try memory(1, Product<T>.scratchCount(n, p), 13)
        let (xs, w) = (x.view.readOnly, weight.view.readOnly)
        run(Pass(forward: Forward(x: xs, weight: w, bias: bias.view.base, y: y.view)))
        let wide = KernelTests.Memory(try random(p, n, seed: 14) as Matrix<Double>)
        let wideBias = KernelTests.Memory(try random(1, p, seed: 15) as Matrix<Double>)
        let products = [
            Product(output: transposed.view, x: xs, weight: w, bias: bias.view.base, scratch: scratch.view.base),
            Product(gradInput: gradInput.view, gradOutput: g, weight: w, scratch: scratch.view.base),
            Product(gradWeight: gradWeight.view, wide: nil, gradOutput: g, x: xs, scratch: scratch.view.base),
        ]
        for product in products { run(Pass(product: product)) }
        run(
            Pass(
                product: Product(
                    gradWeight: gradWeight.view, wide: wide.view.base, gradOutput: g, x: xs,
                    scratch: scratch.view.base),
                columnSums: ColumnSums(gradBias.view.base, wide: wideBias.view.base, gradOutput: g)))
        run(Pass(columnSums: ColumnSums(gradBias.view.base, wide: nil, gradOutput: g)))
        withUnsafeMutablePointer(to: &total) { total in
            var error = SquaredError(
                prediction: y.view.readOnly, target: g, sampleWeight: sampleWeight.view.readOnly)
            error.scale = 0.3
            error.gradPrediction = gradPrediction.view
            error.total = total
            withUnsafePointer(to: error) { run(Pass(error: $0)) }
        }
        for isFirst in [true, false] {
            let update = Update(
                parameter: weight.view.base, gradient: gradWeight.view.base, momentumBuffer: momentum.view.base,
                count: p * n, isFirst: isFirst, learningRate: 0.1, momentum: 0.9, gradientShare: 0.7,
                weightDecay: 0.01, nesterov: true, maximize: false)
            withUnsafePointer(to: update) { update in
                withUnsafePointer(to: Updates(update, count: 1)) { perform(.update($0)) }
            }
        }
        let widening = Accumulation(.widen(UnsafePointer(weight.view.base), to: wide.view.base), count: p * n)
        withUnsafePointer(to: widening) { perform(.accumulate($0)) }
        let sums = [wide.bits, wideBias.bits, [total.value.bitPattern]]
        return [y, transposed, gradInput, gradWeight, gradBias, gradPrediction, weight, momentum].map(\.bits) + sums
    }

    /// The kernel for a step of one row and one output, beside the one for any number of rows.
    @Test(arguments: [1, 4, 8, 15, 16, 17, 33, 64, 100])
    func oneRowGivesTheSameBits(_ n: Int) throws {
        try check(Self.floatLevels)
        try check(Self.doubleLevels)
        func check<T: Scalar>(_ levels: [@Sendable (KernelOperation<T>) -> Void]) throws {
            for target: T in [0.3, -0.7, 0] {
                let results = try levels.flatMap { level in
                    [
                        try runStep(1, n, target, as: { .pass($0) }, level),
                        try runStep(1, n, target, as: { .row($0) }, level),
                    ]
                }
                for result in results { #expect(result == results[0]) }
            }
        }
    }

    /// A step of one output, of rows that lie one behind another, and not; of several blocks where its sums are wide.
    @Test(arguments: [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 33])
    func oneOutputGivesTheSameBits(_ n: Int) throws {
        try check(Self.floatLevels)
        try check(Self.doubleLevels)
        func check<T: Scalar>(_ levels: [@Sendable (KernelOperation<T>) -> Void]) throws {
            for q in [2, 15, 16, 35, 64, 65, 100, 128, 150, 192, 223, 255, 256, 700] {
                for (gap, target) in [(0, 0.3 as T), (3, -0.7), (0, 0)] {
                    for isWide in q > 256 ? [true] : [false, true] {
                        let results = try levels.map { level in
                            try runStep(q, n, gap: gap, isWide: isWide, target, as: { .pass($0) }, level)
                        }
                        for result in results { #expect(result == results[0], "\(q) \(gap) \(target) \(isWide)") }
                    }
                }
            }
        }
    }

    /// A step's gradients and squares. With a target of 0, what rows of zeros give.
    private func runStep<T: Scalar>(
        _ q: Int, _ n: Int, gap: Int = 0, isWide: Bool = false, _ target: T,
        as operation: (UnsafePointer<Pass<T>>) -> KernelOperation<T>, _ perform: (KernelOperation<T>) -> Void
    ) throws -> [[UInt64]] {
        let x: Memory<T> = try spread(target == 0 ? Matrix(rows: q, columns: n) : random(q, n, seed: 1), gap: gap)
        let weight = Memory<T>(try random(1, n, seed: 2)), gradBias = Memory<T>(try Matrix(rows: 1, columns: 1))
        let bias = Memory<T>(try Matrix(rows: 1, columns: 1, repeating: target == 0 ? -0.0 : 0.2))
        let targets = Memory<T>(try Matrix(rows: q, columns: 1, repeating: target))
        let gradWeight = Memory<T>(try random(1, n, seed: 3))
        let wide = KernelTests.Memory(try random(1, n + 1, seed: 4) as Matrix<Double>)
        let rowsPerBlock = min(q, 256)
        let y = Memory<T>(try Matrix(rows: rowsPerBlock, columns: 1))
        let gradient = Memory<T>(try Matrix(rows: rowsPerBlock, columns: 1))
        var total = CompensatedSum()
        total.value = 0.25
        withUnsafeMutablePointer(to: &total) { total in
            var error = SquaredError(prediction: y.view.readOnly, target: targets.view.readOnly, sampleWeight: nil)
            error.total = total
            error.scale = -0.4
            error.gradPrediction = gradient.view
            withUnsafePointer(to: error) { error in
                let pass = Pass(
                    forward: Forward(
                        x: x.view.readOnly, weight: weight.view.readOnly, bias: bias.view.base, y: y.view),
                    error: error,
                    product: Product(
                        gradWeight: gradWeight.view, wide: isWide ? wide.view.base : nil,
                        gradOutput: gradient.view.readOnly, x: x.view.readOnly, scratch: nil),
                    columnSums: ColumnSums(
                        gradBias.view.base, wide: isWide ? wide.view.base + n : nil, gradOutput: gradient.view.readOnly),
                    rows: q, rowsPerBlock: rowsPerBlock)
                withUnsafePointer(to: pass) { perform(operation($0)) }
            }
        }
        return [isWide ? wide.bits : gradWeight.bits, gradBias.bits, [total.value.bitPattern]]
    }

    /// Rows that lie one behind another, and not; numbers of any size, and those at the ends of the range.
    @Test(arguments: [(1, 1), (1, 7), (3, 16), (5, 33), (4, 129), (17, 15)])
    func everyLevelGivesTheSameActivations(_ rows: Int, _ columns: Int) throws {
        try check(Self.floatLevels)
        try check(Self.doubleLevels)
        func check<T: Scalar>(_ levels: [@Sendable (KernelOperation<T>) -> Void]) throws {
            let flat = try runElementwise(rows, columns, gaps: (0, 0, 0), levels[0])
            for level in levels {
                for gaps in [(0, 0, 0), (1, 0, 0), (0, 3, 0), (0, 0, 17), (5, 1, 2)] {
                    let result = try runElementwise(rows, columns, gaps: gaps, level)
                    for (ours, first) in zip(result, flat) { #expect(ours == first, "\(gaps)") }
                }
            }
        }
    }

    /// Each operation's results, without the gaps between its rows, which must be as they were.
    private func runElementwise<T: Scalar>(
        _ rows: Int, _ columns: Int, gaps: (x: Int, gradOutput: Int, y: Int), _ perform: (KernelOperation<T>) -> Void
    ) throws -> [[UInt64]] {
        let x: Memory<T> = try spread(numbers(rows, columns, seed: 1), gap: gaps.x)
        let gradOutput: Memory<T> = try spread(random(rows, columns, seed: 2), gap: gaps.gradOutput)
        let mean: Memory<T> = Memory(try random(1, columns, seed: 3))
        let scale: Memory<T> = Memory(try random(1, columns, seed: 4))
        var results: [[UInt64]] = []
        func expectResult(of perform: (MutableMatrixView<T>) -> Void) throws {
            let y = try spread(Matrix<T>(rows: rows, columns: columns), gap: gaps.y)
            perform(y.view)
            results.append(
                (0..<rows * columns).map { e in
                    let element = y.view.base[e / columns * y.view.rowStride + e % columns]
                    return element.isNaN ? UInt64.max : Double(element).bitPattern
                })
            let gaps = (0..<rows * y.view.rowStride).filter { $0 % y.view.rowStride >= columns }
            #expect(gaps.allSatisfy { y.view.base[$0] == 42 })
        }
        let functions: [ActivationPass<T>.Function] = [.relu, .leakyReLU, .tanh, .sigmoid, .softplus]
        for function in functions {
            for gradOutput in [nil, gradOutput] {
                try expectResult { y in
                    let pass = ActivationPass(
                        function, negativeSlope: 0.3, input: x.view.readOnly, gradOutput: gradOutput?.view.readOnly,
                        output: y)
                    withUnsafePointer(to: pass) { perform(.activation($0)) }
                }
            }
        }
        for mean in [nil, mean] {
            try expectResult { y in
                let pass = Standardization(
                    input: x.view.readOnly, mean: mean.map { UnsafePointer($0.view.base) }, scale: scale.view.base,
                    output: y)
                withUnsafePointer(to: pass) { perform(.standardization($0)) }
            }
        }
        return results
    }

    /// Of any exponent, and the numbers where something changes.
    private func numbers<T: Scalar>(_ rows: Int, _ columns: Int, seed: UInt64) throws -> Matrix<T> {
        var generator = SplitMix(state: seed)
        let special: [T] = [
            0, -0.0, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, -.leastNormalMagnitude,
            .greatestFiniteMagnitude, -.greatestFiniteMagnitude, 88.7, -88.7, -103.9, -104.1, 709.7, -745.1, -745.2,
        ]
        let elements = (0..<rows * columns).map { e -> T in
            if e % 3 == 0 { return special[e / 3 % special.count] }
            let magnitude = T(sign: .plus, exponent: .init(Int.random(in: -30...9, using: &generator)), significand: 1)
            return magnitude * T(Double.random(in: -2..<2, using: &generator))
        }
        return try Matrix(rows: rows, columns: columns, elements: elements)
    }

    /// The same matrix with a gap of 42s behind each row.
    private func spread<T: Scalar>(_ matrix: Matrix<T>, gap: Int) throws -> Memory<T> {
        let wide = (0..<matrix.rows).flatMap { i in
            (0..<matrix.columns + gap).map { j in j < matrix.columns ? matrix[i, j] : 42 }
        }
        return Memory(
            try Matrix(rows: matrix.rows, columns: matrix.columns + gap, elements: wide), columns: matrix.columns)
    }

    /// The fused multiply-add that old processors get, beside this one's instruction.
    @Test func softwareFMA() {
        var generator = SplitMix(state: 1)
        for _ in 0..<200_000 {
            let a = double(&generator), b = double(&generator)
            for c in [double(&generator), -a * b, (-a * b).nextUp, a * b * 0x1p53] {
                let expected = Foundation.fma(a, b, c), ours = PenteKernels.softwareFMA(a, b, c)
                #expect(ours == expected || expected.magnitude < .leastNormalMagnitude, "\(a) \(b) \(c)")
            }
            let (x, y) = (Float(bitPattern: generator.next()), Float(bitPattern: generator.next()))
            for z in [Float(bitPattern: generator.next()), -x * y, x * y * 0x1p24] {
                let expected = Foundation.fmaf(x, y, z), ours = PenteKernels.softwareFMA(x, y, z)
                #expect(ours == expected || ours.isNaN && expected.isNaN, "\(x) \(y) \(z)")
            }
        }
    }

    /// A product that is half a unit in c's last place, but for a little: what is rounded twice goes astray.
    @Test func softwareFMANearATie() {
        var generator = SplitMix(state: 2)
        for _ in 0..<20_000 {
            let i = Double(Int.random(in: 1...1 << 28, using: &generator))
            let a = 1 - i * 0x1p-53
            for b in [1 + i * 0x1p-52, 1 + i * 0x1p-53] {
                for c in [0x1p53, 0x1p53 + 2, -0x1p53, -0x1p53 - 2, -0x1p53 + 1] {
                    #expect(PenteKernels.softwareFMA(a, b, c) == Foundation.fma(a, b, c), "\(a) \(b) \(c)")
                }
            }
            let j = Float(Int.random(in: 1...2000, using: &generator))
            let x = 1 - j * 0x1p-24, y = 1 + j * 0x1p-23
            for z: Float in [0x1p24, 0x1p24 + 2, -0x1p24, -0x1p24 - 2, -0x1p24 + 1] {
                #expect(PenteKernels.softwareFMA(x, y, z) == Foundation.fmaf(x, y, z), "\(x) \(y) \(z)")
            }
        }
    }

    /// Of any exponent that keeps products and sums finite.
    private func double(_ generator: inout SplitMix) -> Double {
        Double(
            sign: Bool.random(using: &generator) ? .plus : .minus,
            exponent: Int.random(in: Bool.random(using: &generator) ? -300...300 : -3...3, using: &generator),
            significand: Double.random(in: 1..<2, using: &generator))
    }
}
