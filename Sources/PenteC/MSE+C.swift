// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente
import PenteKernels

final class MSEResource: Resource {
    let mse: MSE

    init(_ mse: MSE) { self.mse = mse }
}

@inline(never)
func withMSE(_ handle: OpaquePointer?, _ body: (MSE) throws(PenteError) -> Void) throws(PenteError) {
    try HandleTable.withResource(handle, .mse, .read, "mse") { (resource) throws(PenteError) in
        try body(unsafeDowncast(resource, to: MSEResource.self).mse)
    }
}

@inline(__always)
private func withMSEOfStep<Result>(
    _ handle: OpaquePointer?, _ body: (MSE) throws(PenteError) -> Result
) throws(PenteError) -> Result {
    try HandleTable.with(handle, .mse, .read, "mse") { (resource) throws(PenteError) in
        try body(unsafeDowncast(resource, to: MSEResource.self).mse)
    }
}

/// A loss's inputs as C gives them.
private struct LossMatrices {
    let prediction: UnsafePointer<pente_matrix>?
    let target: UnsafePointer<pente_matrix>?
    let sampleWeight: UnsafePointer<pente_matrix>?

    var isFloat32: Bool {
        get throws(PenteError) { try prediction.dtype("prediction") == Float.dtype }
    }

    func inputs<Element>(_ mse: MSE, of _: Element.Type) throws(PenteError) -> LossInputs<Element> {
        try mse.inputs(
            prediction.view("prediction"), target.view("target"), sampleWeight.viewIfAny("sample_weight"))
    }
}

extension Output {
    fileprivate func requireApart(from inputs: LossInputs<Element>) throws(PenteError) {
        try requireDistinct(from: inputs.prediction, "prediction")
        try requireDistinct(from: inputs.target, "target")
        try requireDistinct(from: inputs.sampleWeight, "sample_weight")
    }
}

private func forward<Element: Scalar>(_ mse: MSE, _ matrices: LossMatrices, of _: Element.Type) throws(PenteError)
    -> Double
{
    let inputs = try matrices.inputs(mse, of: Element.self)
    return mse.forward(inputs)
}

private func elements<Element: Scalar>(
    _ mse: MSE, _ matrices: LossMatrices, _ squares: UnsafePointer<pente_matrix>?, of _: Element.Type
) throws(PenteError) {
    let inputs = try matrices.inputs(mse, of: Element.self)
    let output = try squares.output("squares", of: Element.self)
    try output.requireApart(from: inputs)
    try mse.elements(inputs, into: output.view)
}

private func backward<Element: Scalar>(
    _ mse: MSE, _ matrices: LossMatrices, _ gradOutput: UnsafePointer<pente_matrix>?,
    _ gradPrediction: UnsafePointer<pente_matrix>?, _ gradTarget: UnsafePointer<pente_matrix>?, of _: Element.Type
) throws(PenteError) {
    let inputs = try matrices.inputs(mse, of: Element.self)
    let gradOutput = try gradOutput.viewIfAny("grad_output", of: Element.self)
    let gradPrediction = try gradPrediction.outputIfAny("grad_prediction", of: Element.self)
    let gradTarget = try gradTarget.outputIfAny("grad_target", of: Element.self)
    if gradPrediction == nil && gradTarget == nil {
        throw PenteError(.invalidArgument, "grad_prediction and grad_target are both NULL")
    }
    try gradPrediction?.requireApart(from: inputs)
    try gradPrediction?.requireDistinct(from: gradOutput, "grad_output")
    try gradTarget?.requireApart(from: inputs)
    try gradTarget?.requireDistinct(from: gradOutput, "grad_output")
    try gradPrediction?.requireDistinct(from: gradTarget?.view.readOnly, "grad_target")
    try mse.backward(
        inputs, upstream: gradOutput, gradPrediction: gradPrediction?.view, gradTarget: gradTarget?.view)
}

@_cdecl("pente_mse_new") @implementation
public func pente_mse_new(
    _ options: UnsafePointer<pente_mse_options>!, _ mse: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_mse_new") { () throws(PenteError) in
        let mse = try require(mse, "mse")
        var reduction = Reduction.mean
        if let options = try sized(options, "options") {
            guard let known = Reduction(rawValue: options.reduction) else {
                throw PenteError(
                    .invalidArgument,
                    "reduction is \(options.reduction), which is none of PENTE_MEAN (1) to PENTE_OUTPUT_MEAN (5)")
            }
            reduction = known
        }
        mse.pointee = try HandleTable.insert(MSEResource(MSE(reduction: reduction)), .mse)
    }
}

@_cdecl("pente_mse_free") @implementation
public func pente_mse_free(_ mse: OpaquePointer!) -> pente_status {
    freeing("pente_mse_free", mse, .mse, "mse")
}

@_cdecl("pente_mse_forward") @implementation
public func pente_mse_forward(
    _ mse: OpaquePointer!, _ prediction: UnsafePointer<pente_matrix>!, _ target: UnsafePointer<pente_matrix>!,
    _ sample_weight: UnsafePointer<pente_matrix>!, _ loss: UnsafeMutablePointer<Double>!
) -> pente_status {
    statusOfStep("pente_mse_forward") { () throws(PenteError) in
        try withMSEOfStep(mse) { (mse) throws(PenteError) in
            try mse.requireReduced()
            let loss = try require(loss, "loss")
            let matrices = LossMatrices(prediction: prediction, target: target, sampleWeight: sample_weight)
            loss.pointee =
                try matrices.isFloat32
                ? forward(mse, matrices, of: Float.self) : forward(mse, matrices, of: Double.self)
        }
    }
}

@_cdecl("pente_mse_forward_elements") @implementation
public func pente_mse_forward_elements(
    _ mse: OpaquePointer!, _ prediction: UnsafePointer<pente_matrix>!, _ target: UnsafePointer<pente_matrix>!,
    _ sample_weight: UnsafePointer<pente_matrix>!, _ squares: UnsafePointer<pente_matrix>!
) -> pente_status {
    status("pente_mse_forward_elements") { () throws(PenteError) in
        try withMSEOfStep(mse) { (mse) throws(PenteError) in
            let matrices = LossMatrices(prediction: prediction, target: target, sampleWeight: sample_weight)
            if try matrices.isFloat32 {
                try elements(mse, matrices, squares, of: Float.self)
            } else {
                try elements(mse, matrices, squares, of: Double.self)
            }
        }
    }
}

@_cdecl("pente_mse_backward") @implementation
public func pente_mse_backward(
    _ mse: OpaquePointer!, _ prediction: UnsafePointer<pente_matrix>!, _ target: UnsafePointer<pente_matrix>!,
    _ sample_weight: UnsafePointer<pente_matrix>!, _ grad_output: UnsafePointer<pente_matrix>!,
    _ grad_prediction: UnsafePointer<pente_matrix>!, _ grad_target: UnsafePointer<pente_matrix>!
) -> pente_status {
    statusOfStep("pente_mse_backward") { () throws(PenteError) in
        try withMSEOfStep(mse) { (mse) throws(PenteError) in
            let matrices = LossMatrices(prediction: prediction, target: target, sampleWeight: sample_weight)
            if try matrices.isFloat32 {
                try backward(mse, matrices, grad_output, grad_prediction, grad_target, of: Float.self)
            } else {
                try backward(mse, matrices, grad_output, grad_prediction, grad_target, of: Double.self)
            }
        }
    }
}
