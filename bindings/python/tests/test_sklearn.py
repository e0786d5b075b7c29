"""pente.sklearn, as scikit-learn wants estimators to be."""

import copy
import doctest
import pickle
import tracemalloc
from os import environ

import pytest

environ.setdefault("SCIPY_ARRAY_API", "1")  # before SciPy is imported, or scikit-learn skips a check
pytest.importorskip("sklearn")

import joblib
import numpy as np
import pente
from pente.sklearn import LinearRegressor, MLPRegressor, _linear, _mlp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn_support import linear, table
from support import run_python

ESTIMATORS = [LinearRegressor(), MLPRegressor()]
SMALL = [LinearRegressor(), MLPRegressor(8, max_iter=2000, random_state=0)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("module", [_linear, _mlp])
def test_the_examples_in_the_docstrings(module):
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert tests
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


# ---- What it is part of ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_grid_search_over_a_pipeline(jobs):
    x, y = table("diabetes")
    pipeline = make_pipeline(PolynomialFeatures(2, include_bias=False), LinearRegressor(max_iter=3000, tol=1e-4))
    search = GridSearchCV(pipeline, {"linearregressor__alpha": [0.1, 100.0]}, cv=2, n_jobs=jobs).fit(x, y)
    assert search.best_params_ == {"linearregressor__alpha": 0.1}
    assert search.score(x, y) > 0.5


@pytest.mark.parametrize("estimator", SMALL)
def test_cross_validation(estimator):
    x, y = linear(300, 3)
    scores = cross_val_score(estimator, x, y, cv=3, error_score="raise")
    assert (scores > 0.97).all()


@pytest.mark.parametrize("estimator", SMALL)
@pytest.mark.parametrize(
    "copied",
    [lambda e, _: pickle.loads(pickle.dumps(e)), lambda e, _: copy.deepcopy(e), lambda e, path: dumped(e, path)],
    ids=["pickle", "deepcopy", "joblib"],
)
def test_copies_predict_the_same_and_go_on_the_same(estimator, copied, tmp_path):
    x, y = linear(100, 3)
    estimator = clone(estimator).fit(x, y)
    other = copied(estimator, tmp_path / "estimator")
    assert np.array_equal(other.predict(x), estimator.predict(x))
    assert np.array_equal(other.partial_fit(x, y + 1).predict(x), estimator.partial_fit(x, y + 1).predict(x))


def dumped(estimator, path):
    joblib.dump(estimator, path)
    return joblib.load(path)


@pytest.mark.parametrize("estimator", SMALL)
def test_html(estimator):
    assert type(estimator).__name__ in estimator_html_repr(estimator)


@pytest.mark.parametrize("estimator", SMALL)
def test_feature_names(estimator):
    pandas = pytest.importorskip("pandas")
    x, y = linear(50, 2)
    frame = pandas.DataFrame(x, columns=["width", "height"])
    estimator = clone(estimator).fit(frame, pandas.Series(y))
    assert list(estimator.feature_names_in_) == ["width", "height"] and estimator.n_features_in_ == 2
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[["height", "width"]])


# ---- Layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("targets", [None, 1, 2])
@pytest.mark.parametrize("estimator", SMALL)
def test_a_saved_layer_predicts_the_same_bits(estimator, targets, dtype, tmp_path):
    x, y = linear(100, 3)
    y = y if targets is None else np.column_stack([y, 3 - y][:targets])
    estimator = clone(estimator).fit(x.astype(dtype), y)
    estimator.layer_.save(tmp_path / "layer")
    layer = pente.Layer.load(tmp_path / "layer")
    prediction = estimator.predict(x.astype(dtype))
    assert prediction.dtype == dtype and prediction.shape == y.shape
    assert estimator.score(x, y) > 0.9
    assert prediction.tobytes() == bytes(layer.predict(x.astype(dtype)))


def test_what_the_layers_are():
    x, y = linear(50, 3)
    linear_layer = LinearRegressor().fit(x, y).layer_
    assert type(linear_layer) is pente.Linear
    estimator = MLPRegressor([5, 4], "leaky_relu", tol=10)
    kinds = [type(layer) for layer in estimator.fit(x, y).layer_]
    assert kinds == [pente.Scaler, pente.Linear, pente.LeakyReLU, pente.Linear, pente.LeakyReLU, pente.Linear]


@pytest.mark.parametrize("estimator", SMALL)
def test_before_fit_there_is_nothing(estimator):
    for name in ("layer_", "coef_", "intercept_", "loss_curve_"):
        assert not hasattr(clone(estimator), name)
    with pytest.raises(NotFittedError):
        clone(estimator).predict([[1.0]])


# ---- What fit leaves alone ------------------------------------------------------------------------------------------


def test_x_is_not_copied():
    x, y = linear(400_000, 10)
    kept = x.copy(), y.copy()
    tracemalloc.start()
    LinearRegressor(tol=10, n_iter_no_change=1, learning_rate=1e-3).fit(x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.9 * x.nbytes
    assert np.array_equal(x, kept[0]) and np.array_equal(y, kept[1])


@pytest.mark.parametrize("estimator", SMALL)
def test_a_fit_that_fails_changes_nothing(estimator):
    x, y = linear(50, 3)
    estimator = clone(estimator).fit(x, y)
    before = pickle.dumps(estimator)
    with pytest.raises(ValueError):
        estimator.fit(np.full((50, 4), np.nan), y)
    estimator.set_params(learning_rate=100.0)
    with pytest.raises(FloatingPointError, match=r"diverged with learning_rate=100.*Try a lower one"):
        estimator.fit(x[:, :2], y)
    assert pickle.dumps(estimator.set_params(learning_rate="auto")) == before


def test_control_c_changes_nothing():
    run_python(
        """
        import _thread, pickle, threading, warnings
        import numpy as np
        from pente.sklearn import MLPRegressor
        x = np.random.default_rng(0).standard_normal((1000, 20))
        model = MLPRegressor(8, tol=10).fit(x[:, :3], x[:, 0])
        before = pickle.dumps(model)
        model.set_params(hidden_layer_sizes=100, max_iter=10**6, n_iter_no_change=10**6)
        threading.Timer(0.5, _thread.interrupt_main).start()
        try:
            model.fit(x, x[:, :2])
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("no KeyboardInterrupt")
        model.set_params(hidden_layer_sizes=8, max_iter=200, n_iter_no_change=10)
        assert pickle.dumps(model) == before
        """
    )


def test_a_light_import():
    run_python(
        """
        import sys
        import pente
        assert not {"numpy", "sklearn", "pente.sklearn"} & set(sys.modules)
        """
    )


@pytest.mark.parametrize("estimator", [LinearRegressor(), MLPRegressor((4,), max_iter=5)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_targets_of_any_order(estimator):
    """A DataFrame's columns lie one after another."""
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).normal(size=(50, 3))
    y = x @ [[1.0, 2.0], [0.0, -1.0], [3.0, 0.0]]
    expected = clone(estimator).set_params(random_state=0).fit(x, y).predict(x)
    for targets in (pandas.DataFrame(y, columns=["a", "b"]), np.asfortranarray(y), y[::-1][::-1]):
        model = clone(estimator).set_params(random_state=0)
        assert np.array_equal(model.fit(x, targets).predict(x), expected)
        model.partial_fit(x, targets)


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("name", ["learning_rate", "momentum", "alpha", "tol"])
def test_a_parameter_that_is_not_finite_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} == {value}"):
        LinearRegressor(**{name: float(value)}).fit([[1.0], [2.0]], [1.0, 2.0])


def test_what_is_missing_is_named():
    run_python(
        """
        import sys
        sys.modules["sklearn"] = None
        try:
            import pente.sklearn
        except ImportError as error:
            assert "pip install pente[sklearn]" in str(error), error
        else:
            raise AssertionError("imported")
        """
    )
