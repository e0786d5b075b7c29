import PenteKernels

/// The kernels for x86-64 processors with AVX2 and FMA: sixteen registers of half a logical vector.
@inline(never) @export(interface)
public func performAVX2(_ operation: KernelOperation<Float>) {
    operation.run(
        dot: Tile<2, 2>.self, pair: Tile<2, 2>.self, column: Tile<4, 1>.self, row: Tile<1, 4>.self,
        outer: Tile<4, 1>.self)
}

@inline(never) @export(interface)
public func performAVX2(_ operation: KernelOperation<Double>) {
    operation.run(
        dot: Tile<2, 2>.self, pair: Tile<2, 2>.self, column: Tile<4, 1>.self, row: Tile<1, 4>.self,
        outer: Tile<4, 1>.self)
}
