/// The kernels for processors on which a fused multiply-add is a call: number by number, in the order in which the
/// vectors have them, and so with the same bits, in a tenth of the code.
extension KernelOperation where T: KernelVector<T> {
    func runPlainly() {
        switch self {
        case .pass(let pass), .row(let pass): pass.pointee.runPlainly()
        default: runElements(T.self)
        }
    }
}

extension Pass where T: KernelVector<T> {
    @inline(never)
    func runPlainly() {
        var first = 0
        while first < rows {
            let part = rows > rowsPerBlock ? part(first, min(rowsPerBlock, rows &- first)) : self
            if let forward = part.forward { forward.runPlainly() }
            if let error = part.error?.pointee {
                let isPart = rows > rowsPerBlock
                (isPart ? error.part(first, min(rowsPerBlock, rows &- first), in: rowsPerBlock) : error).runPlainly()
            }
            if let product = part.product { product.runPlainly() }
            if let sums = part.columnSums { sums.runPlainly() }
            first &+= rowsPerBlock
        }
    }
}

extension Forward where T: KernelVector<T> {
    @inline(never)
    func runPlainly() {
        for i in 0..<x.rows {
            for k in 0..<weight.rows {
                let dot = Self.dot(x.base + i &* x.rowStride, weight.base + k &* weight.rowStride, x.columns)
                y.base[i &* y.rowStride &+ k] = dot + (bias.map { $0[k] } ?? 0)
            }
        }
    }

    /// Lane l has the terms with j ≡ l (mod lanes); halves of the lanes are added until one is left.
    static func dot(_ x: UnsafePointer<T>, _ w: UnsafePointer<T>, _ count: Int) -> T {
        var lanes = InlineArray<16, T>(repeating: 0)
        var j = 0
        while j < count {
            for lane in 0..<T.Vector._lanes {
                // Beyond the last term there are zeros, which turn −0 to 0.
                let isTerm = j &+ lane < count
                lanes[lane] = T._fma(isTerm ? x[j &+ lane] : 0, isTerm ? w[j &+ lane] : 0, lanes[lane])
            }
            j &+= T.Vector._lanes
        }
        var half = T.Vector._lanes / 2
        while half > 0 {
            for lane in 0..<half { lanes[lane] += lanes[lane &+ half] }
            half /= 2
        }
        return lanes[0]
    }
}

extension SquaredError where T: KernelVector<T> {
    @inline(never)
    func runPlainly() { run(T.self) }
}

extension Product where T: KernelVector<T> {
    @inline(never)
    func runPlainly() {
        for r in 0..<y.rows {
            for c in 0..<y.columns {
                var s = 0
                while s < depth {
                    let end = min(s &+ Self.depthPerBlock, depth)
                    var sum = self.sum(r, c, s, min(s &+ stepsPerRun, end))
                    for run in stride(from: s &+ stepsPerRun, to: end, by: stepsPerRun) {
                        sum += self.sum(r, c, run, min(run &+ stepsPerRun, end))
                    }
                    if let wide {
                        wide[r &* y.columns &+ c] += Double(sum)
                    } else {
                        if s > 0 { sum += y.base[r &* y.rowStride &+ c] }
                        if end == depth, let bias { sum += bias[c] }
                        y.base[r &* y.rowStride &+ c] = sum
                    }
                    s = end
                }
            }
        }
    }
}

extension Product where T: KernelVector<T> {
    private func sum(_ r: Int, _ c: Int, _ first: Int, _ end: Int) -> T {
        var sum: T = 0
        for s in first..<end { sum = T._fma(a[r &* aRow &+ s &* aStep], b[s &* bStep &+ c &* bColumn], sum) }
        return sum
    }
}

extension ColumnSums where T: KernelVector<T> {
    @inline(never)
    func runPlainly() {
        for k in 0..<gradOutput.columns {
            var (total, lanes) = (0.0, WideSums())
            for i in 0..<gradOutput.rows {
                lanes.add(Double(gradOutput.base[i &* gradOutput.rowStride &+ k]), times: 1, i % 16)
                if (i &+ 1) % Self.rowsPerPart == 0 || i &+ 1 == gradOutput.rows {
                    lanes.add(to: &total)
                    lanes = WideSums()
                }
            }
            store(total, k)
        }
    }
}
