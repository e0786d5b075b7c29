import PenteKernels

/// The kernels for x86-64 processors with AVX-512 (F, BW, CD, DQ, VL): thirty-two registers of one logical vector.
@inline(never) @export(interface)
public func performAVX512(_ operation: KernelOperation<Float>) {
    operation.run(
        dot: Tile<4, 4>.self, pair: Tile<8, 2>.self, column: Tile<8, 1>.self, row: Tile<1, 4>.self,
        outer: Tile<8, 2>.self)
}

@inline(never) @export(interface)
public func performAVX512(_ operation: KernelOperation<Double>) {
    operation.run(
        dot: Tile<4, 4>.self, pair: Tile<8, 2>.self, column: Tile<8, 1>.self, row: Tile<1, 4>.self,
        outer: Tile<8, 2>.self)
}
