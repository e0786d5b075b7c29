"""Writes diabetes.csv, linnerud.csv and digits.csv beside itself, from scikit-learn's copies: raw values, targets last.

    python data/make_data.py        # needs scikit-learn
"""

import csv
from pathlib import Path

from sklearn.datasets import load_diabetes, load_digits, load_linnerud


def write(name, header, features, targets):
    """Each number stands as the shortest decimal that reads back as the same double."""
    with open(Path(__file__).with_name(name), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for x, y in zip(features.tolist(), targets.tolist()):
            writer.writerow(repr(value).removesuffix(".0") for value in x + y)


diabetes = load_diabetes(scaled=False)
write("diabetes.csv", [*diabetes.feature_names, "progression"], diabetes.data, diabetes.target.reshape(-1, 1))

linnerud = load_linnerud()
write("linnerud.csv", [name.lower() for name in linnerud.feature_names + linnerud.target_names],
      linnerud.data, linnerud.target)

digits = load_digits()
write("digits.csv", [*digits.feature_names, "digit"], digits.data, digits.target.reshape(-1, 1))
