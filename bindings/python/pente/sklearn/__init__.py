"""Estimators for scikit-learn: ``pip install 'pente[sklearn]'``.

What they learn is a layer, ``estimator.layer_``, from features as they are to targets as they are. Save it, and C,
Swift and Python predict with it, to the same bits and without scikit-learn.

>>> from pente.sklearn import LinearRegressor
>>> from sklearn.model_selection import cross_val_score
>>> X = np.random.default_rng(0).uniform(0, 1000, (500, 2))
>>> bool(cross_val_score(LinearRegressor(), X, X @ [3, -2] + 7).min() > 0.999)
True
"""

from importlib import import_module

try:
    import_module("sklearn")
except ImportError as _error:
    raise ImportError("pente.sklearn needs scikit-learn: pip install pente[sklearn]") from _error

from ._linear import LinearRegressor
from ._mlp import MLPRegressor

__all__ = ["LinearRegressor", "MLPRegressor"]
