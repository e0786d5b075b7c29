import PenteKernels

/// The kernels for x86-64 processors with AVX-512 (F, BW, CD, DQ, VL): thirty-two registers of one logical vector.
@inline(never) @export(interface)
public func performAVX512(_ operation: KernelOperation<Float>) {
    guard case .pass(let pass) = operation else { return performElements(operation) }
    pass.pointee.run(
        Tile<4, 4>.self, Tile<8, 2>.self, Tile<8, 1>.self, Tile<1, 4>.self, Tile<8, 2>.self,
        Tile<4, 4>.self)
}

@inline(never)
private func performElements(_ operation: KernelOperation<Float>) {
    operation.runElements(Float.Vector.self)
}

/// The same for float64.
@inline(never) @export(interface)
public func performAVX512(_ operation: KernelOperation<Double>) {
    guard case .pass(let pass) = operation else { return performElements(operation) }
    pass.pointee.run(
        Tile<4, 4>.self, Tile<8, 2>.self, Tile<8, 1>.self, Tile<1, 4>.self, Tile<8, 2>.self,
        Tile<4, 4>.self)
}

@inline(never)
private func performElements(_ operation: KernelOperation<Double>) {
    operation.runElements(Double.Vector.self)
}
