import PenteKernels
import PenteSystem

extension SGD {
    /// Scales the gradients of all parameters by one number, so that their norm is `maxNorm`, if it is above that, and
    /// returns what it was before. PyTorch's `clip_grad_norm_`, to rounding: the norm is the square root of the sum of
    /// all the gradients' squares, here in float64, and the number is `maxNorm` / (norm + 10⁻⁶).
    ///
    /// `maxNorm` is finite and above 0. Throws `.notFinite`, before anything changes, if the norm is NaN or infinite.
    @discardableResult
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    public func clipGradients(maxNorm: Double) throws(PenteError) -> Double {
        if !(maxNorm > 0 && maxNorm.isFinite) {
            throw PenteError(.invalidArgument, "max_norm is \(maxNorm); it must be finite and above 0")
        }
        try prepare()
        return try clip(to: maxNorm)
    }

    /// The same when a step is prepared: for the parameters' own gradients, or for those of a batch, which go there
    /// from `sums`, where `offsets` has a place for each, or −1 if it is 0.
    @discardableResult
    @inline(never)
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package func clip(
        to maxNorm: Double, offsets: UnsafePointer<Int>? = nil, sums: UnsafePointer<Element>? = nil
    ) throws(PenteError) -> Double {
        let norm = pente_square_root(sumOfSquares(offsets, sums, scale: nil))
        if !norm.isFinite { throw notFinite("the gradients' norm is \(norm)") }
        let factor = min(1, maxNorm / (norm + 1e-6))
        if factor < 1 || sums != nil { _ = sumOfSquares(offsets, sums, scale: factor) }
        return norm
    }

    /// Or, with a scale, 0, and the gradients are their products with it.
    @inline(never)
    private func sumOfSquares(
        _ offsets: UnsafePointer<Int>?, _ sums: UnsafePointer<Element>?, scale: Double?
    ) -> Double {
        var sum = 0.0
        for i in 0..<updates.count {
            let (gradient, count) = (updates.base[i].gradient, updates.base[i].count)
            let offset = offsets?[i] ?? 0
            if offset >= 0 {
                var clipping = Clipping(
                    (sums ?? UnsafePointer(gradient)) + offset, count: count,
                    products: scale == nil ? nil : gradient, factor: Element(scale ?? 1))
                Element._perform(&clipping)
                sum += clipping.sum
            } else if scale != nil {
                memset(gradient, 0, count &* MemoryLayout<Element>.size)
            }
        }
        return sum
    }

    /// What is not finite, and what to do about it.
    @inline(never)
    package func notFinite(_ what: Message) -> PenteError {
        PenteError(
            .notFinite,
            "\(what); usual causes are features that are not scaled, a large lr (it is \(groups[0].options.lr)), or NaN in the data"
        )
    }
}
