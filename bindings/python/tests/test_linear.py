import inspect

import pente
import pytest
from support import DTYPES, assert_close, matrix, product, randoms, snapshot, transpose, vector, zeros


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


def test_describes_itself():
    layer = pente.Linear(3, 2)
    assert repr(layer) == "Linear(in_features=3, out_features=2, bias=True, dtype='float32')"
    assert (layer.in_features, layer.out_features, layer.dtype) == (3, 2, "float32")
    assert str(inspect.signature(pente.Linear)) == (
        "(in_features, out_features, bias=True, dtype='float32', seed=None)"
    )
    assert str(inspect.signature(layer.forward)) == "(x, out=None)"


def test_the_version_is_the_librarys():
    assert pente.__version__.count(".") == 2


def test_weights_depend_on_the_seed_alone(dtype):
    assert snapshot(pente.Linear(4, 3, dtype=dtype, seed=7)) == snapshot(pente.Linear(4, 3, dtype=dtype, seed=7))
    assert snapshot(pente.Linear(4, 3, dtype=dtype, seed=7)) != snapshot(pente.Linear(4, 3, dtype=dtype, seed=8))
    assert snapshot(pente.Linear(4, 3, dtype=dtype)) != snapshot(pente.Linear(4, 3, dtype=dtype))


def test_views_show_and_change_the_layer(dtype):
    layer = pente.Linear(2, 3, dtype=dtype)
    assert layer.weight.shape == layer.weight_grad.shape == (3, 2)
    assert layer.bias.shape == layer.bias_grad.shape == (3,)
    assert layer.weight.dtype == dtype
    layer.weight[2, 1] = 5.0
    layer.bias[0] = 7.0
    assert layer.weight[2, 1] == layer.weight.tolist()[2][1] == 5.0
    assert layer.state_dict()["bias"][0] == 7.0
    with pytest.raises(AttributeError):
        layer.weight = layer.weight


def test_without_a_bias():
    layer = pente.Linear(2, 1, bias=False, dtype="float64")
    assert layer.bias is None and layer.bias_grad is None
    layer.weight[0, 0], layer.weight[0, 1] = 2.0, 3.0
    assert layer(matrix([[10, 100]])).tolist() == [[320.0]]
    assert "bias=False" in repr(layer)


@pytest.mark.parametrize("method", ["forward", "predict", "__call__"])
def test_forward_is_xw_plus_b(dtype, method):
    layer = pente.Linear(4, 3, dtype=dtype, seed=0)
    x = randoms(5, 4, dtype)
    expected = product(x.tolist(), transpose(layer.weight.tolist()))
    expected = [[y + b for y, b in zip(row, layer.bias.tolist())] for row in expected]
    y = getattr(layer, method)(x)
    assert (y.shape, y.dtype) == ((5, 3), dtype)
    assert_close(y.tolist(), expected, dtype)
    out = zeros(5, 3, dtype)
    assert getattr(layer, method)(x, out=out) is out
    assert bytes(out) == bytes(y)


def test_backward_gives_all_three_gradients(dtype):
    layer = pente.Linear(4, 3, dtype=dtype, seed=0)
    x, grad_output = randoms(5, 4, dtype), randoms(5, 3, dtype)
    layer.forward(x)
    grad_input = layer.backward(grad_output)
    assert_close(grad_input.tolist(), product(grad_output.tolist(), layer.weight.tolist()), dtype)
    assert_close(layer.weight_grad.tolist(), product(transpose(grad_output.tolist()), x.tolist()), dtype)
    assert_close(layer.bias_grad.tolist(), product([[1.0] * 5], grad_output.tolist())[0], dtype)


def test_gradients_accumulate_until_zeroed(dtype):
    layer = pente.Linear(4, 3, dtype=dtype, seed=0)
    x, grad_output = randoms(5, 4, dtype), randoms(5, 3, dtype)
    layer.forward(x)
    layer.backward(grad_output)
    once = layer.weight_grad.tolist()
    layer.forward(x)
    layer.backward(grad_output)
    assert_close(layer.weight_grad.tolist(), [[2 * value for value in row] for row in once], dtype)
    layer.zero_grad()
    assert layer.weight_grad.tolist() == [[0.0] * 4] * 3
    assert layer.bias_grad.tolist() == [0.0] * 3


def test_the_input_gradient_may_be_skipped_or_given_a_place():
    layer = pente.Linear(4, 3, dtype="float64")
    x, grad_output, out = randoms(5, 4), randoms(5, 3), zeros(5, 4)
    layer(x)
    assert layer.backward(grad_output, input_gradient=False) is None
    layer(x)
    assert layer.backward(grad_output, out) is out
    layer(x)
    assert bytes(layer.backward(grad_output)) == bytes(out)
    layer(x)
    with pytest.raises(ValueError, match="input_gradient is False"):
        layer.backward(grad_output, out, input_gradient=False)


def test_backward_wants_a_forward_each_time():
    layer = pente.Linear(4, 3, dtype="float64")
    grad_output = randoms(5, 3)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(grad_output)
    layer.predict(randoms(5, 4))
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(grad_output)
    layer.forward(randoms(5, 4))
    layer.backward(grad_output)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(grad_output)


def test_a_refused_call_leaves_the_forward_before_it():
    layer = pente.Linear(4, 3, dtype="float64")
    layer.forward(randoms(5, 4))
    with pytest.raises(ValueError):
        layer.forward(randoms(5, 7))
    with pytest.raises(ValueError):
        layer.backward(randoms(6, 3))
    with pytest.raises(ValueError):
        layer.backward(randoms(5, 3), zeros(6, 4))
    assert layer.weight_grad.tolist() == [[0.0] * 4] * 3
    assert layer.backward(randoms(5, 3)).shape == (5, 4)


def test_one_dimension_is_one_row():
    layer = pente.Linear(3, 2, dtype="float64", seed=0)
    row = vector([1, 2, 3])
    assert layer(row).tolist() == layer(matrix([[1, 2, 3]])).tolist()


def test_state_dict_is_a_copy_and_loads_again(dtype):
    layer, other = pente.Linear(4, 3, dtype=dtype, seed=1), pente.Linear(4, 3, dtype=dtype, seed=2)
    state = layer.state_dict()
    assert list(state) == ["weight", "bias"]
    assert (state["weight"].shape, state["bias"].shape) == ((3, 4), (3,))
    layer.weight[0, 0] = 100.0
    assert state["weight"][0, 0] != 100.0
    other.load_state_dict(state)
    assert snapshot(other) == {name: bytes(value) for name, value in state.items()}
    assert list(pente.Linear(4, 3, bias=False).state_dict()) == ["weight"]


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda state: state.pop("bias"), ValueError, "no 'bias'"),
        (lambda state: state.pop("weight"), ValueError, "no 'weight'"),
        (lambda state: state.update(more=state["bias"]), ValueError, "'more' is no parameter"),
        (lambda state: state.update({3: state["bias"]}), ValueError, "3 is no parameter"),
        (lambda state: state.update(weight=zeros(2, 2)), ValueError, "weight is 2 by 2, but the layer's is 3 by 4"),
        (lambda state: state.update(bias=vector([1, 2])), ValueError, "bias is 1 by 2, but the layer's is 1 by 3"),
        (lambda state: state.update(bias=vector([1, 2, 3], "float32")), TypeError, "bias is float32"),
        (lambda state: state.update(bias=[1, 2, 3]), TypeError, "bias is of type list"),
    ],
)
def test_load_state_dict_is_strict_and_changes_nothing_on_failure(change, error, message):
    layer = pente.Linear(4, 3, dtype="float64")
    before = snapshot(layer)
    state = pente.Linear(4, 3, dtype="float64").state_dict()
    change(state)
    with pytest.raises(error, match=message):
        layer.load_state_dict(state)
    assert snapshot(layer) == before


def test_load_state_dict_takes_views_of_the_layer_itself():
    layer = pente.Linear(2, 2, dtype="float64", seed=0)
    before = snapshot(layer)
    layer.load_state_dict(layer.parameters)
    assert snapshot(layer) == before
    layer.load_state_dict({"weight": zeros(2, 2), "bias": layer.bias})
    assert snapshot(layer) == {"weight": bytes(32), "bias": before["bias"]}
    one, other = pente.Linear(2, 2, seed=1), pente.Linear(2, 2, seed=2)
    before = snapshot(one), snapshot(other)
    views = pente.Chain(one, other).parameters
    pente.Chain(one, other).load_state_dict({f"{1 - int(name[0])}{name[1:]}": view for name, view in views.items()})
    assert (snapshot(other), snapshot(one)) == before


def test_load_state_dict_refuses_what_it_cannot_use():
    with pytest.raises(TypeError):
        pente.Linear(2, 2).load_state_dict(3)
    with pytest.raises(ValueError, match="no 'weight'"):
        pente.Linear(2, 2).load_state_dict([])
    with pytest.raises(ValueError, match="'bias' is no parameter"):
        pente.Linear(4, 3, bias=False).load_state_dict(pente.Linear(4, 3).state_dict())


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(in_features=0), ValueError, "in_features"),
        (dict(out_features=-1), ValueError, "out_features"),
        (dict(in_features=2.5), TypeError, "in_features must be a whole number, not 2.5"),
        (dict(out_features="2"), TypeError, "out_features must be a whole number, not '2'"),
        (dict(in_features=2**70), ValueError, "in_features is 1180591620717411303424, but"),
        (dict(out_features=-(2**70)), ValueError, "out_features is -1180591620717411303424, but"),
        (dict(dtype="float16"), ValueError, "'float32' or 'float64', not 'float16'"),
        (dict(dtype=float), TypeError, "'float32' or 'float64'"),
        (dict(seed=-1), ValueError, "seed is -1"),
        (dict(seed=2**64), ValueError, "seed"),
        (dict(seed="1"), TypeError, "seed must be a whole number or None, not '1'"),
        (dict(scale=1), TypeError, "scale"),
    ],
)
def test_constructor_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        pente.Linear(**{"in_features": 3, "out_features": 2, **arguments})


def test_sizes_beyond_memory_are_an_error():
    with pytest.raises((MemoryError, ValueError)):
        pente.Linear(2**40, 2**40)
    with pytest.raises((MemoryError, ValueError)):
        pente.Linear(2**62, 2**62)


def test_calls_are_checked_like_any_others():
    layer = pente.Linear(3, 2, dtype="float64")
    x = randoms(1, 3)
    for wrong in [
        lambda: layer.forward(),
        lambda: layer.forward(x, None, x),
        lambda: layer.forward(x, y=x),
        lambda: layer.forward(x, x=x),
        lambda: layer(),
        lambda: layer.backward(),
    ]:
        with pytest.raises(TypeError):
            wrong()


def test_types_are_final():
    with pytest.raises(TypeError):
        type("Mine", (pente.Linear,), {})
    with pytest.raises(TypeError):
        pente.Linear.forward = None


def test_matrix_shows_itself():
    layer = pente.Linear(2, 1, bias=True, dtype="float64")
    layer.load_state_dict({"weight": matrix([[1, 2]]), "bias": vector([3])})
    assert repr(layer.weight) == "Matrix([[1.0, 2.0]], shape=(1, 2), dtype='float64')"
    assert repr(layer.bias) == "Matrix([3.0], shape=(1,), dtype='float64')"
    assert repr(pente.Linear(100, 2).weight) == "Matrix(shape=(2, 100), dtype='float32')"


def test_matrix_is_a_buffer():
    weight = pente.Linear(3, 2, dtype="float64", seed=0).weight
    view = memoryview(weight)
    assert (view.shape, view.strides, view.format, view.readonly) == ((2, 3), (24, 8), "d", False)
    assert len(weight) == 2
    assert weight[1, 2] == view[1, 2] == weight[-1, -1]
    assert bytes(weight) == view.tobytes() and view.c_contiguous
    assert bytearray(weight) == view.tobytes()
    with pytest.raises(IndexError):
        weight[2, 0]
    with pytest.raises(TypeError):
        weight[0, 0] = "1"
    with pytest.raises(TypeError):
        del weight[0, 0]
    with pytest.raises(TypeError):
        pente.Matrix()


def test_an_error_as_the_readme_shows_it():
    np = pytest.importorskip("numpy")
    layer = pente.Linear(10, 1)

    def call():
        layer(np.zeros((32, 7), np.float32))

    with pytest.raises(ValueError, match="^x is 32×7, but the layer takes 10 columns$"):
        call()
