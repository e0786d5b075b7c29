#if PENTE_CHECKED
    import CPente
    import PenteKernels
    import PenteSystem

    /// What a callback is given in the checked build: copies between red zones, so that it is seen what it writes, and what
    /// not.
    final class Loan<Element: Scalar> {
        private struct Item {
            let name: StaticString
            let original: MutableMatrixView<Element>
            /// One to be written is copied back, one to be read is compared.
            let isOutput: Bool
            let copy: Copy
        }

        private final class Copy {
            let memory: Buffer<Element>
            init(_ memory: consuming Buffer<Element>) { self.memory = memory }
        }

        private let callback: StaticString
        private var items: [Item] = []

        init(_ callback: StaticString) { self.callback = callback }

        /// A copy to be read.
        func lend(_ view: MatrixView<Element>, _ name: StaticString) throws(PenteError) -> pente_matrix {
            let original = MutableMatrixView(
                UnsafeMutablePointer(mutating: view.base), rows: view.rows, columns: view.columns)
            return try lend(original, name, isOutput: false, isCopied: true)
        }

        /// One to be written.
        func lend(
            _ original: MutableMatrixView<Element>, _ name: StaticString, isOutput: Bool = true, isCopied: Bool = false
        ) throws(PenteError) -> pente_matrix {
            let copy = Copy(try Buffer(rows: original.rows, columns: original.columns, isZeroed: false))
            if isCopied { copy.memory.copy(from: original.base) }
            items.append(Item(name: name, original: original, isOutput: isOutput, copy: copy))
            return MatrixView(copy.memory.base, rows: original.rows, columns: original.columns).matrix
        }

        func run(_ body: () throws(PenteError) -> Void) throws(PenteError) {
            var failure: PenteError?
            do throws(PenteError) { try body() } catch { failure = error }
            for item in items { try requireKept(item) }
            if let failure { throw failure }
            for item in items where item.isOutput { try requireWritten(item) }
            for item in items where item.isOutput {
                item.original.base.copy(item.copy.memory.base, count: item.copy.memory.count)
            }
        }

        private func requireKept(_ item: Item) throws(PenteError) {
            let memory = UnsafeMutableRawPointer(item.copy.memory.base)
            if !RedZones.areIntact(around: memory) {
                for item in items { RedZones.mend(around: item.copy.memory.base) }
                throw misuse("wrote outside of \(item.name)")
            }
            let size = item.copy.memory.count * MemoryLayout<Element>.size
            if !item.isOutput && memcmp(memory, item.original.base, size) != 0 {
                throw misuse("wrote to \(item.name), which it is to read")
            }
        }

        private func requireWritten(_ item: Item) throws(PenteError) {
            for e in 0..<item.copy.memory.count where RedZones.isUnwritten(item.copy.memory.base + e) {
                let (row, column) = e.quotientAndRemainder(dividingBy: item.original.columns)
                throw misuse("did not write element \(row), \(column) of \(item.name)")
            }
        }

        private func misuse(_ what: Message) -> PenteError {
            PenteError(.invalidState, "the layer's \(callback) callback \(what.text)")
        }
    }
#endif
