"""What the estimators of pente.sklearn learn, beside what scikit-learn's do."""

import warnings

import pytest

pytest.importorskip("sklearn")

import numpy as np
import pente
from pente.sklearn import LinearRegressor, MLPRegressor
from pente.sklearn._training import Rows, largest_curvature
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, Ridge, SGDRegressor
from sklearn.preprocessing import StandardScaler
from sklearn_support import coefficient_error, houses, least_squares, linear, table

SMALL = [LinearRegressor(), MLPRegressor(8, max_iter=2000, random_state=0)]

# ---- Least squares --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-6), (np.float32, 1e-4)])
@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("rows, features", [(50, 1), (500, 10), (1000, 30)])
def test_least_squares_on_unscaled_features(rows, features, targets, dtype, tolerance):
    x, y = linear(rows, features)
    y = y if targets is None else np.column_stack([y, x[:, 0] - 2 * y])
    coef, intercept = least_squares(x, y)
    model = LinearRegressor().fit(x.astype(dtype), y)
    assert model.coef_.shape == coef.shape and model.coef_.dtype == dtype
    assert np.shape(model.intercept_) == intercept.shape
    assert coefficient_error(model.coef_, coef, x) < tolerance
    assert np.allclose(model.intercept_, intercept, rtol=100 * tolerance)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_momentum_outlives_the_rounding_of_the_loss():
    """Columns so alike that it takes momentum to tell them apart, until long after the loss has its last digit."""
    x, y = linear(20, 1)
    x = np.column_stack([x, x + linear(20, 1, seed=1)[0] / 100])
    coef, _ = least_squares(x, y)
    model = LinearRegressor(tol=0, n_iter_no_change=2000, max_iter=100_000, momentum=0.98).fit(x, y)
    assert np.allclose(model.coef_, coef, rtol=1e-10)


def test_where_sgd_regressor_explodes():
    x, y = linear(500, 10)
    coef, _ = least_squares(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = SGDRegressor(random_state=0).fit(x, y)
    assert abs(theirs.coef_).max() > 1e9
    assert coefficient_error(LinearRegressor().fit(x, y).coef_, coef, x) < 1e-6


def offset():
    x, y = linear(300, 3)
    return x / 500 + [0, 1e6 - 1, 0], y


def constant():
    x, y = linear(300, 5)
    x[:, 2:4] = 0.1, 1e20
    return x, y


def correlated():
    x, y = linear(2000, 5)
    return x @ (np.eye(5) * 0.3 + 1), y


def heavy_tails():
    generator = np.random.default_rng(0)
    x = generator.standard_cauchy((3000, 5))
    return x, x.sum(axis=1) + generator.standard_normal(3000)


def rare():
    """Columns that are 1 in a single row of thousands, in whose batch the curvature is hundreds of times the usual."""
    generator = np.random.default_rng(0)
    x = np.column_stack([generator.standard_normal((5000, 3)), np.eye(5000)[:, [77, 4000]]])
    return x, x @ [1, 2, 3, 40, 50] + generator.standard_normal(5000)


DATA = {
    "diabetes": lambda: table("diabetes"),
    "three targets": lambda: table("linnerud", targets=3),
    "houses": houses,
    "correlated": correlated,
    "constant column": constant,
    "few rows": lambda: linear(4, 3),
    "more features than rows": lambda: linear(20, 100),
    "many features": lambda: linear(1500, 200),
    "offset": offset,
    "heavy tails": heavy_tails,
    "rare": rare,
    "many rows": lambda: linear(20_000, 5, noise=1),
}


@pytest.mark.parametrize("name", DATA)
def test_as_good_as_linear_regression(name):
    x, y = DATA[name]()
    model = LinearRegressor(random_state=0).fit(x, y)
    assert model.score(x, y) > LinearRegression().fit(x, y).score(x, y) - 1e-4


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", DATA)
def test_a_perceptron_diverges_nowhere(name):
    x, y = DATA[name]()
    score = MLPRegressor(16, random_state=0).fit(x, y).score(x, y)
    assert score > (0 if name == "heavy tails" else LinearRegression().fit(x, y).score(x, y) - 0.05)


@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu", "tanh", "logistic", "softplus"])
def test_activations(activation):
    x, y = make_friedman1(500, noise=0.5, random_state=0)
    model = MLPRegressor((16, 16), activation, max_iter=2000, tol=1e-3, random_state=0).fit(1000 * x, y)
    straight = LinearRegression().fit(x, y).score(x, y)
    assert np.isclose(model.score(1000 * x, y), straight, atol=0.01) == (activation == "identity")
    assert model.score(1000 * x, y) > straight - 0.01


def test_a_constant_column_has_no_coefficient():
    x, y = constant()
    assert (LinearRegressor().fit(x, y).coef_[2:4] == 0).all()
    assert np.array_equal(LinearRegressor().fit(x, np.full(300, 7.1)).predict(x), np.full(300, 7.1))


@pytest.mark.parametrize("estimator", SMALL)
def test_one_row_is_learned(estimator):
    model = clone(estimator).fit([[1.0, 2.0]], [3.0])
    assert np.allclose(model.predict([[1.0, 2.0]]), 3, atol=0.1)


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_alpha_is_that_of_ridge(alpha):
    x, y = linear(200, 5)
    y = np.column_stack([y, 3 * x[:, 0] - y])
    model = LinearRegressor(alpha=alpha).fit(x, y)
    scaler = StandardScaler().fit(x)
    ridge = Ridge(alpha * len(x)).fit(scaler.transform(x), y)
    assert np.allclose(model.coef_, ridge.coef_ / scaler.scale_, rtol=1e-4)


def test_without_scale_it_is_plain_descent():
    x, y = linear(200, 3)
    x, y = StandardScaler().fit_transform(x) + 1, y / y.std()
    coef, intercept = least_squares(x, y)
    model = LinearRegressor(scale=False).fit(x, y)
    assert np.allclose(model.coef_, coef, atol=1e-3) and np.allclose(model.intercept_, intercept, atol=1e-3)
    steps = LinearRegressor(scale=False, learning_rate=0.01, momentum=0.5, tol=1e9).fit(x, y)
    layer = pente.Linear(3, 1, dtype="float64")
    layer.load_state_dict({"weight": np.zeros((1, 3)), "bias": np.zeros(1)})
    trainer = pente.Trainer(layer, pente.SGD(layer, lr=0.01, momentum=0.5, nesterov=True), pente.MSELoss())
    losses = [trainer.step(x, y[:, None]) for _ in range(steps.n_iter_)]
    assert steps.loss_curve_ == losses and np.allclose(steps.coef_, layer.weight, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "bool"])
def test_targets_of_any_dtype(dtype):
    x, y = linear(50, 2)
    y = ((y - y.min()) / 10).astype(dtype)
    predictions = [LinearRegressor().fit(x, target).predict(x) for target in (y, y.astype("float64"))]
    assert np.array_equal(*predictions)


# ---- How it gets there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_curvature_is_the_largest_eigenvalue(weighted):
    x, y = linear(60, 8)
    x = x / 100 - 5
    weight = np.random.default_rng(1).uniform(0, 3, 60) if weighted else np.ones(60)
    chain = pente.Chain(pente.Scaler(8, "float64"), pente.Linear(8, 1, dtype="float64", seed=0))
    columns = np.column_stack([x, np.ones(60)])
    largest = np.linalg.eigvalsh(2 * columns.T @ (weight[:, None] * columns) / weight.sum())[-1]
    rows = Rows(x, y[:, None] / y.std(), weight if weighted else None)
    assert 0.9 * largest < largest_curvature(chain, pente.MSELoss(), rows) < 1.001 * largest


@pytest.mark.parametrize("estimator", SMALL)
@pytest.mark.parametrize("batch_size", ["auto", 7])
def test_weights_are_rows_again_and_no_rows(estimator, batch_size):
    x, y = linear(40, 3)
    weight = np.arange(40) % 4
    model = clone(estimator).set_params(batch_size=batch_size, random_state=0)
    weighted = clone(model).fit(x, y, sample_weight=weight)
    if batch_size == "auto":
        repeated = clone(model).fit(x.repeat(weight, axis=0), y.repeat(weight))
        assert np.allclose(weighted.predict(x), repeated.predict(x), rtol=1e-9)
        assert np.isclose(weighted.score(x, y, weight), repeated.score(x.repeat(weight, axis=0), y.repeat(weight)))
    without = clone(model).fit(x[weight > 0], y[weight > 0], sample_weight=weight[weight > 0])
    assert np.array_equal(weighted.predict(x), without.predict(x))


@pytest.mark.parametrize("estimator", SMALL)
@pytest.mark.parametrize("rows, early_stopping", [(100, True), (1500, False)])
def test_a_seed_decides_all(estimator, rows, early_stopping):
    x, y = linear(rows, 3)
    model = clone(estimator).set_params(early_stopping=early_stopping)
    predictions = [clone(model).set_params(random_state=seed).fit(x, y).predict(x) for seed in (0, 0, 1)]
    assert np.array_equal(predictions[0], predictions[1]) and not np.array_equal(predictions[0], predictions[2])


@pytest.mark.parametrize("estimator", SMALL)
def test_partial_fit_goes_on(estimator):
    x, y = linear(3000, 4)
    model = clone(estimator)
    for epoch in range(1, 31):
        for rows in np.split(np.arange(3000), 15):
            model.partial_fit(x[rows], y[rows])
        assert model.n_iter_ == len(model.loss_curve_) == 15 * epoch
    assert model.score(x, y) > LinearRegression().fit(x, y).score(x, y) - 0.02
    with pytest.raises(ValueError, match="y has 2 targets, but the model was fitted to 1"):
        model.partial_fit(x, np.column_stack([y, y]))


@pytest.mark.parametrize("first", [1, 2])
def test_partial_fit_stands_a_first_call_that_tells_nothing(first):
    x, y = linear(1000, 3)
    model = LinearRegressor().partial_fit(x[:first], y[:first])
    for _ in range(100):
        model.partial_fit(x, y)
    assert model.loss_curve_[-1] < model.loss_curve_[1]


@pytest.mark.parametrize("estimator", SMALL)
def test_warm_start_goes_on(estimator):
    x, y = linear(200, 3)
    model = clone(estimator).set_params(warm_start=True).fit(x, y)
    first = model.loss_curve_
    model.fit(x, y)
    assert model.loss_curve_[: len(first)] == first and model.loss_curve_[len(first)] < 2 * first[-1] < first[0]
    assert model.set_params(warm_start=False).fit(x, y).loss_curve_ == first


def test_early_stopping_gives_back_the_best():
    x, y = make_friedman1(80, noise=3, random_state=0)
    test_x, test_y = make_friedman1(1000, random_state=1)
    model = MLPRegressor(100, alpha=0, learning_rate=0.05, tol=0, max_iter=1000, random_state=0)
    patient, impatient = (
        clone(model).set_params(early_stopping=True, validation_fraction=0.25, n_iter_no_change=epochs).fit(x, y)
        for epochs in (300, 50)
    )
    assert impatient.n_iter_ + 250 == patient.n_iter_
    assert np.array_equal(impatient.predict(x), patient.predict(x))
    with pytest.warns(ConvergenceWarning, match="max_iter=1000"):
        model.fit(x, y)
    assert model.n_iter_ == 1000 and patient.score(test_x, test_y) > model.score(test_x, test_y) + 0.05
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        patient.partial_fit(x, y)


def test_the_loss_is_a_share_of_the_variance():
    x, y = linear(200, 3)
    model = LinearRegressor().fit(x, np.column_stack([y, 1000 * x[:, 0]]))
    assert np.isclose(model.loss_curve_[0], 1)
    assert np.isclose(model.loss_curve_[-1], 1 - model.score(x, np.column_stack([y, 1000 * x[:, 0]])), atol=1e-6)


def test_verbose(capsys):
    x, y = linear(50, 2)
    model = LinearRegressor(verbose=True).fit(x, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Iteration 1, loss = 1.00000000" and len(lines) == model.n_iter_


# ---- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value",
    [
        ("learning_rate", 0.0),
        ("learning_rate", "constant"),
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("max_iter", 0),
        ("momentum", 1.0),
        ("alpha", -1.0),
        ("tol", -1e-9),
        ("n_iter_no_change", 0),
        ("validation_fraction", 1.0),
        ("hidden_layer_sizes", (3, 0)),
        ("hidden_layer_sizes", 2.5),
        ("activation", "elu"),
    ],
)
def test_parameters_out_of_range(name, value):
    x, y = linear(20, 2)
    with pytest.raises((ValueError, TypeError), match=name):
        MLPRegressor().set_params(**{name: value}).fit(x, y)


def test_data_that_cannot_be_scaled():
    x, y = linear(20, 2)
    with pytest.raises(ValueError, match=r"Column 1 of X has a mean of .* beyond the range of float32"):
        LinearRegressor().fit((x * [1, 1e-45]).astype(np.float32), y)
    with pytest.raises(ValueError, match=r"Column 0 of y has a mean of .* beyond the range of float32"):
        LinearRegressor().fit(x.astype(np.float32), y * 1e40)
    with pytest.raises(ValueError, match=r"Column 0 of y has a mean of .* beyond the range of float64"):
        LinearRegressor().fit(x, y * 1e200)
    with pytest.raises(ValueError, match=r"Column 1 of X has .* a standard deviation of 0.0, beyond the range of"):
        LinearRegressor().fit(x * [1, 1e-170], y)


def test_a_column_that_only_rows_of_weight_0_change():
    x, y = linear(20, 2)
    x[:, 1] = 3
    expected = LinearRegressor(random_state=0).fit(x, y).predict(x)
    weight = [0, *[1] * 20, 0]
    x, y = np.concatenate([[[1, 1]], x, [[5, 5]]]), [9, *y, 7]
    assert np.allclose(LinearRegressor(random_state=0).fit(x, y, sample_weight=weight).predict(x)[1:-1], expected)


@pytest.mark.parametrize("change", [{"hidden_layer_sizes": 5}, {"activation": "tanh"}])
def test_layers_of_another_kind_on_the_way(change):
    x, y = linear(20, 2)
    model = MLPRegressor(4, tol=10, warm_start=True).fit(x, y)
    before = model.predict(x)
    model.set_params(**change)
    for train in model.fit, model.partial_fit:
        with pytest.raises(ValueError, match="hidden_layer_sizes or activation is not what"):
            train(x, y)
        assert np.array_equal(model.predict(x), before)
    assert not np.array_equal(model.set_params(warm_start=False).fit(x, y).predict(x), before)
