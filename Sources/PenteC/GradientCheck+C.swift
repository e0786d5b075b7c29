// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente
import PenteKernels

@_cdecl("pente_gradcheck") @implementation
public func pente_gradcheck(
    _ layer: OpaquePointer!, _ mse: OpaquePointer!, _ x: UnsafePointer<pente_matrix>!,
    _ target: UnsafePointer<pente_matrix>!, _ options: UnsafePointer<pente_gradcheck_options>!,
    _ report: UnsafeMutablePointer<pente_gradcheck_report>!
) -> pente_status {
    status("pente_gradcheck") { () throws(PenteError) in
        let report = try require(report, "report")
        try requireSized(report, "report")
        let options = try GradientCheckOptions(options)
        try withLayerIfAny(layer) { (layer) throws(PenteError) in
            try withMSEIfAny(mse) { (mse) throws(PenteError) in
                let x: MatrixView<Double> = try x.view("x")
                let target: MatrixView<Double>? = try target.viewIfAny("target")
                if let layer {
                    try x.requireApart(from: layer, "x")
                    try target?.requireApart(from: layer, "target")
                }
                report.pointee = try checkGradients(layer: layer, mse: mse, x: x, target: target, options: options).asC
            }
        }
    }
}

private func withLayerIfAny(
    _ handle: OpaquePointer?, _ body: (Layer<Double>?) throws(PenteError) -> Void
) throws(PenteError) {
    if handle == nil { return try body(nil) }
    try withLayer(handle, .write) { (layer) throws(PenteError) in
        if layer.dtype != Double.dtype {
            throw PenteError(.dtypeMismatch, "layer is float32, but a gradient check takes float64")
        }
        try body(unsafeDowncast(layer, to: TypedLayer<Double>.self).layer)
    }
}

private func withMSEIfAny(
    _ handle: OpaquePointer?, _ body: (MSE?) throws(PenteError) -> Void
) throws(PenteError) {
    if handle == nil { return try body(nil) }
    try withMSE(handle) { (mse) throws(PenteError) in try body(mse) }
}

extension GradientCheckOptions {
    fileprivate init(_ options: UnsafePointer<pente_gradcheck_options>?) throws(PenteError) {
        self.init()
        guard let options = try sized(options, "options") else { return }
        self.init(eps: options.eps, atol: options.atol, rtol: options.rtol)
    }
}

extension GradientCheckReport {
    fileprivate var asC: pente_gradcheck_report {
        var report = pente_gradcheck_report()
        report.struct_size = MemoryLayout<pente_gradcheck_report>.size
        report.passed = passed ? 1 : 0
        report.checked = Int64(checked)
        withUnsafeMutableBytes(of: &report.worst) { bytes in
            var length = worst.withBytes { (name) in
                let length = min(name.count, bytes.count)
                for i in 0..<length { bytes[i] = name[i] }
                return length
            }
            if length < bytes.count { return }
            // Cut between two characters.
            repeat { length -= 1 } while length > 0 && isInsideCharacter(bytes[length])
            for i in length..<bytes.count { bytes[i] = 0 }
        }
        (report.row, report.column) = (Int64(row), Int64(column))
        (report.analytic, report.numeric) = (analytic, numeric)
        (report.error, report.tolerance) = (error, tolerance)
        return report
    }
}
