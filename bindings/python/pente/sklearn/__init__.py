"""Estimators for scikit-learn: ``pip install 'pente[sklearn]'``.

What they learn is a layer, ``estimator.layer_``, from features as they are to targets as they are. Save it, and C,
Swift and Python predict with it, to the same bits and without scikit-learn.
"""

from ._linear import LinearRegressor
from ._mlp import MLPRegressor

__all__ = ["LinearRegressor", "MLPRegressor"]
