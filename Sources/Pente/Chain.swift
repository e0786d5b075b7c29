import PenteKernels
import PenteSystem

/// Layers in a row, each output the next one's input: torch.nn.Sequential. It is a layer like any other, and so part of
/// other chains.
///
/// By the chain rule the gradient goes through the layers backward, from the last one's output to the first one's input.
/// The parameters are those of the layers, which may go on to be used by themselves, as "0.weight", "0.bias", "2.weight".
/// A chain and its layers belong to one thread, or actor, together.
public final class Chain<Element: Scalar>: Layer<Element> {
    /// In the order in which x goes through them.
    public let layers: [Layer<Element>]
    private let links: [Link<Element>]
    /// The first layer with something to train: gradients go no further back unless x's is wanted.
    private let firstTrained: Int

    /// How deep chains may nest: each level takes some of the thread's stack.
    package static var deepest: Int { 64 }

    /// At least one layer, and one with a number of columns of its own; each takes as many columns as the one before
    /// gives. No parameter may be in it twice, and chains nest 64 deep at most.
    ///
    /// Throws `.shapeMismatch` for two layers that do not fit together, and else `.invalidArgument`.
    public convenience init(_ layers: [Layer<Element>]) throws(PenteError) {
        let widths = try Self.require(layers)
        self.init(layers, widths)
    }

    package static func make(_ layers: [Layer<Element>]) throws(PenteError) -> Chain {
        let widths = try require(layers)
        return Chain(layers, widths)
    }

    private init(_ layers: [Layer<Element>], _ widths: [Int]) {
        self.layers = layers
        var layout = Layout(widths: widths)
        links = layers.map { layout.add($0) }
        firstTrained = layers.firstIndex { !$0.trained.isEmpty } ?? layers.count - 1
        super.init(widths.first!, widths.last!, Self.parameters(of: layers))
        kind = .chain
        // Each layer goes on to sum in blocks of its own, so that it has the same bits in a chain and by itself.
        rowsPerBlock = 0
        nameCount = parameters.count
        for layer in layers {
            rowsPerBlock = max(rowsPerBlock, layer.rowsPerBlock)
            rowsPerSum = min(rowsPerSum, layer.rowsPerSum)
            if layer.mayFail { mayFail = true }
            depth = max(depth, layer.depth)
            nameCount += layer.nameCount
        }
        depth += 1
        rowsPerStep = rowsPerBlock
        readsOutput = layers.last!.readsOutput
        workspacePerRow.fixed = layout.workspaceCount
    }

    private static func parameters(of layers: [Layer<Element>]) -> [Parameter<Element>] {
        var parameters: [Parameter<Element>] = []
        for (i, layer) in layers.enumerated() {
            for parameter in layer.parameters {
                parameters.append(parameter.named(Message("\(i).\(parameter.name)").text))
            }
        }
        return parameters
    }

    package override func resetParameters(from generator: inout MersenneTwister) {
        for layer in layers { layer.resetParameters(from: &generator) }
    }

    package override var summary: Message { "Chain(\(inputs), \(outputs))" }

    package override func describe(to json: inout JSONWriter) {
        json.raw("{\"type\":\"chain\",\"layers\":[")
        for (i, layer) in layers.enumerated() where !json.isFull {
            if i > 0 { json.raw(",") }
            layer.describe(to: &json)
        }
        json.raw("]}")
    }

    package override func scratchCount(rows: Int) -> Int { layers.reduce(0) { max($0, $1.scratchCount(rows: rows)) } }

    package override func logCount(rows: Int) -> Int { layers.reduce(0) { $0 + $1.logCount(rows: rows) } }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeForward(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, workspace: Workspace<Element>
    ) throws(PenteError) {
        var input = x
        for i in links.indices {
            let output = i == links.count - 1 ? y : links[i].output(in: workspace, rows: x.rows)
            try links[i].layer.forwardInBlocks(
                input, into: output, workspace: workspace.advanced(by: x.rows &* links[i].workspaceOffset))
            input = output.readOnly
        }
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeBackward(_ pass: BackwardPass<Element>) throws(PenteError) {
        let (rows, workspace) = (pass.x.rows, pass.workspace)
        let last = pass.gradInput == nil ? firstTrained : 0
        var gradOutput = pass.gradOutput
        var i = links.count - 1
        while i >= last {
            let link = links[i]
            let gradInput =
                i == 0 ? pass.gradInput : i == last ? nil : link.gradInput(in: workspace, rows: rows, isOdd: i & 1 == 1)
            try link.layer.backwardInBlocks(
                BackwardPass(
                    gradOutput: gradOutput,
                    x: i == 0 ? pass.x : links[i - 1].output(in: workspace, rows: rows).readOnly,
                    y: i == links.count - 1 ? pass.y : link.output(in: workspace, rows: rows).readOnly,
                    workspace: workspace.advanced(by: rows &* link.workspaceOffset),
                    gradients: pass.gradients.advanced(by: link.gradientOffset), gradInput: gradInput))
            if let gradInput { gradOutput = gradInput.readOnly }
            i -= 1
        }
    }
}

/// A layer in its place. Offsets into the workspace are in numbers for each row.
private struct Link<Element: Scalar> {
    let layer: Layer<Element>
    let inputs: Int
    let outputs: Int
    let outputOffset: Int
    let workspaceOffset: Int
    /// Two gradients take turns: the one that a layer reads and the one that it writes.
    let gradInputOffsets: (even: Int, odd: Int)
    let gradientOffset: Int

    func output(in workspace: Workspace<Element>, rows: Int) -> MutableMatrixView<Element> {
        MutableMatrixView(workspace.rows + rows &* outputOffset, rows: rows, columns: outputs)
    }

    func gradInput(
        in workspace: Workspace<Element>, rows: Int, isOdd: Bool
    ) -> MutableMatrixView<Element> {
        let offset = isOdd ? gradInputOffsets.odd : gradInputOffsets.even
        return MutableMatrixView(workspace.rows + rows &* offset, rows: rows, columns: inputs)
    }
}

/// A chain's workspace: two gradients, then for each layer its output (but for the last one's) and its own workspace.
private struct Layout {
    /// What goes into each layer, and comes out of the last.
    let widths: [Int]
    let widest: Int
    var workspaceCount: Int
    private var gradientCount = 0
    private var added = 0

    init(widths: [Int]) {
        self.widths = widths
        widest = widths[1..<(widths.count - 1)].reduce(0) { max($0, $1) }
        workspaceCount = 2 * widest
    }

    mutating func add<Element>(_ layer: Layer<Element>) -> Link<Element> {
        let (inputs, outputs) = (widths[added], widths[added + 1])
        added += 1
        let outputOffset = workspaceCount
        if added < widths.count - 1 { workspaceCount += outputs }
        let workspaceOffset = workspaceCount
        workspaceCount += layer.workspacePerRow(columns: inputs)
        let gradientOffset = gradientCount
        gradientCount += layer.trainedCount
        return Link(
            layer: layer, inputs: inputs, outputs: outputs, outputOffset: outputOffset,
            workspaceOffset: workspaceOffset, gradInputOffsets: (0, widest), gradientOffset: gradientOffset)
    }
}

// MARK: What layers make a chain.

extension Chain {
    /// Returns what goes into each layer, and comes out of the last.
    private static func require(_ layers: [Layer<Element>]) throws(PenteError) -> [Int] {
        if layers.isEmpty { throw PenteError(.invalidArgument, "layers is empty; a chain takes at least one") }
        for (i, layer) in layers.enumerated() where layer.depth >= deepest {
            throw PenteError(
                .invalidArgument, "layers[\(i)] nests \(layer.depth) deep already, and \(deepest) deep is the most")
        }
        try requireDistinct(layers)
        let widths = try widths(layers)
        // A layer without parameters costs no memory however wide it is, and may be in a chain many times.
        var count = 2 * widths.max()!
        for (i, layer) in layers.enumerated() {
            count += widths[i + 1] + layer.workspacePerRow(columns: widths[i])
            if count > 1 << 48 { throw .outOfMemory }
        }
        return widths
    }

    private static func requireDistinct(_ layers: [Layer<Element>]) throws(PenteError) {
        if try !hasRepeats(layers) { return }
        for (i, layer) in layers.enumerated() {
            for parameter in layer.parameters {
                for (k, earlier) in layers[..<i].enumerated() where earlier.has(parameter) {
                    throw PenteError(
                        .invalidArgument, "layers[\(i)] has the parameter \(parameter.name) that layers[\(k)] has")
                }
            }
        }
    }

    /// Whether two parameters are the same: equal addresses stand side by side when they are sorted.
    private static func hasRepeats(_ layers: [Layer<Element>]) throws(PenteError) -> Bool {
        let addresses = try Buffer<UInt>(rows: 1, columns: layers.reduce(0) { $0 + $1.parameters.count })
        var count = 0
        for layer in layers {
            for parameter in layer.parameters {
                addresses.base[count] = UInt(bitPattern: parameter.values)
                count += 1
            }
        }
        sortAddresses(addresses.base, count)
        for i in 1..<max(count, 1) where addresses.base[i - 1] == addresses.base[i] { return true }
        return false
    }

    private static func widths(_ layers: [Layer<Element>]) throws(PenteError) -> [Int] {
        guard let first = layers.first(where: { $0.inputs != 0 }) else {
            throw PenteError(
                .invalidArgument, "layers has none with a number of columns of its own; a chain needs at least one")
        }
        var widths = [first.inputs]
        var giver: Int?
        for (i, layer) in layers.enumerated() {
            let width = widths[i]
            if layer.inputs != 0, layer.inputs != width, let giver {
                throw PenteError(
                    .shapeMismatch,
                    "layers[\(giver)], \(layers[giver].summary), gives \(width) columns, but layers[\(i)], \(layer.summary), takes \(layer.inputs)"
                )
            }
            if layer.outputs != 0 { giver = i }
            widths.append(layer.outputs == 0 ? width : layer.outputs)
        }
        return widths
    }
}

/// Equal ones stand side by side then.
@inline(never)
package func sortAddresses(_ addresses: UnsafeMutableRawPointer, _ count: Int) {
    qsort(addresses, count, MemoryLayout<UInt>.size) { a, b in
        let (a, b) = (a!.load(as: UInt.self), b!.load(as: UInt.self))
        return a < b ? -1 : a > b ? 1 : 0
    }
}
