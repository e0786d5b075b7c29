// What the checked build alone looks at: mistakes that the ordinary one has no time to see. See docs/reliability.md.

#if PENTE_CHECKED
    import CPente
    import PenteKernels
    import PenteSystem

    /// A failed assertion says where and what, by putchar: on stderr, since stdout is the host's.
    @_cdecl("__wrap_putchar")
    public func wrappedPutchar(_ letter: Int32) -> Int32 {
        pente_write_letter(letter)
        return letter
    }

    /// Throws unless so many things that a caller points to are there.
    func requireAccess<Pointee>(
        _ pointer: UnsafePointer<Pointee>, _ count: Int, _ name: StaticString, writes: Bool = false
    ) throws(PenteError) {
        let size = count * MemoryLayout<Pointee>.stride
        if pente_is_accessible(pointer, size, writes ? 1 : 0) == 0 {
            throw PenteError(
                .invalidArgument, "\(name) is no memory of \(size) bytes that can be \(writes ? "written" : "read")")
        }
    }

    // In place of those for any pointer.
    func require<Pointee>(
        _ pointer: UnsafePointer<Pointee>?, _ name: StaticString
    ) throws(PenteError) -> UnsafePointer<Pointee> {
        guard let pointer else { throw isNull(name) }
        try requireAccess(pointer, 1, name)
        return pointer
    }

    func require<Pointee>(
        _ pointer: UnsafeMutablePointer<Pointee>?, _ name: StaticString
    ) throws(PenteError) -> UnsafeMutablePointer<Pointee> {
        guard let pointer else { throw isNull(name) }
        try requireAccess(pointer, 1, name, writes: true)
        return pointer
    }

    extension MatrixView where Scalar: Pente.Scalar {
        func requireAccess(_ name: StaticString, writes: Bool = false) throws(PenteError) {
            // The gaps between rows need not be there, but no page of many rows is asked for twice.
            let gap = (rowStride - columns) * MemoryLayout<Scalar>.size
            let isAll = isContiguous || gap < 4096 && pente_is_accessible(base, size, writes ? 1 : 0) != 0
            for row in 0..<(isContiguous ? 1 : isAll ? 0 : rows) {
                let part = isContiguous ? size : columns * MemoryLayout<Scalar>.size
                if pente_is_accessible(base + row * rowStride, part, writes ? 1 : 0) != 0 { continue }
                throw PenteError(
                    .invalidArgument,
                    "\(name) says it is \(rows, columns) with a row_stride of \(rowStride), but not all of that is memory that can be \(writes ? "written" : "read")"
                )
            }
        }

        private var size: Int { ((rows - 1) * rowStride + columns) * MemoryLayout<Scalar>.size }

        /// Of its elements, without the gaps between rows.
        var hash: UInt64 {
            (0..<rows).reduce(0xcbf2_9ce4_8422_2325) {
                pente_hash($0, base + $1 * rowStride, columns * MemoryLayout<Scalar>.size)
            }
        }
    }

    extension Layer {
        var parameterHash: UInt64 { parameters.reduce(0) { $0 &* 31 &+ $1.view.hash } }
    }

    extension TypedContext {
        /// Throws unless a pass's x and parameters are what they were when it went forward.
        func requireUnchanged(_ x: MatrixView<Element>, _ layer: Layer<Element>) throws(PenteError) {
            do throws(PenteError) {
                try x.requireAccess("x")
            } catch {
                throw PenteError(.invalidState, "the x of the forward pass is gone; it is borrowed until backward")
            }
            if x.hash != seen.x {
                throw PenteError(.invalidState, "x has changed since the forward pass; it is borrowed until backward")
            }
            if layer.parameterHash != seen.parameters {
                throw PenteError(.invalidState, "the layer's parameters have changed since the forward pass")
            }
        }
    }
#endif
