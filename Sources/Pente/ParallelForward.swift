import PenteKernels
import Synchronization

/// Inference on several threads: each takes the next range of rows. Rows do not meet, but in the groups of eight that a
/// pass takes them in, and of these no range has a part.
private final class ParallelForward<Element: Scalar>: WorkInParts {
    private let layer: Layer<Element>
    private let x: MatrixView<Element>
    private let y: MutableMatrixView<Element>
    private let plan: ForwardPlan
    private let failed = Atomic<Bool>(false)

    init(
        _ layer: Layer<Element>, _ x: MatrixView<Element>, _ y: MutableMatrixView<Element>, _ plan: ForwardPlan
    ) {
        self.layer = layer
        self.x = x
        self.y = y
        self.plan = plan
    }

    var hasFailed: Bool { failed.load(ordering: .relaxed) }

    override func perform(_ first: Int, _ count: Int, _ thread: Int) {
        let scratch = Pool.memory(thread).assumingMemoryBound(to: Element.self)
        let workspace = Workspace(rows: scratch + plan.workspace, scratch: scratch)
        do throws(PenteError) {
            try layer.forwardInBlocks(
                x.rows(first, count), into: y.rows(first, count), workspace: workspace, of: min(plan.blockRows, count),
                advance: 0)
        } catch {
            failed.store(true, ordering: .relaxed)
        }
    }
}

private struct ForwardPlan {
    let work: Int
    let threads: Int
    let rangeRows: Int
    let blockRows: Int
    /// A thread's memory: scratch, and from here on the workspace of a block.
    let workspace: Int
    let perThread: Int

    /// nil: not worth it.
    init?<Element>(_ layer: Layer<Element>, _ x: MatrixView<Element>, threads most: Int) {
        work = ParallelPlan.work(layer, x)
        if layer.mayFail || work < ParallelPlan.leastWork { return nil }
        // All blocks are powers of two, so that each is in one range. What is one block is shared out by groups of rows,
        // unless its layer shares out the outputs.
        let block = max(512, layer.rowsPerBlock)
        if layer.sharesOutputs && x.rows <= block { return nil }
        rangeRows =
            x.rows > block
            ? max(1, x.rows / (8 * most * block)) * block : ((x.rows - 1) / (8 * most) + 1) * 8
        threads = min(most, (x.rows - 1) / rangeRows + 1)
        let perRow = layer.workspacePerRow(columns: x.columns)
        blockRows = perRow == 0 ? rangeRows : layer.rowsPerBlock
        workspace = (layer.scratchCount(rows: rangeRows) + 31) & ~31
        perThread = (workspace + blockRows * perRow + 31) & ~31
        if perThread > 1 << 48 { return nil }  // there is no such memory
    }
}

extension Layer {
    /// y = layer(x) on several threads, if that is worth it; returns whether it was done.
    final func forwardInParallel(_ x: MatrixView<Element>, into y: MutableMatrixView<Element>) -> Bool {
        guard let plan = ForwardPlan(self, x, threads: Threads.count) else { return false }
        let bytes = plan.perThread * MemoryLayout<Element>.stride
        if Pool.take(threads: plan.threads, work: plan.work, bytes: bytes) == 1 { return false }
        let work = ParallelForward(self, x, y, plan)
        work.run(count: x.rows, perPart: plan.rangeRows)
        return !work.hasFailed
    }
}
