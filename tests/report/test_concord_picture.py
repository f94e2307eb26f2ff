"""The picture of which metrics agree."""

import numpy as np
import pandas as pd

from kdxai.report import concord


def table(names, rho):
    pairs = [(a, b) for a in range(len(names)) for b in range(len(names)) if a != b]
    rows = [
        {"metric": names[a], "other": names[b], "rho": rho[a, b]}
        | {"ci_low": rho[a, b] - 0.1, "ci_high": rho[a, b] + 0.1}
        for a, b in pairs
    ]
    return pd.DataFrame(rows)


def test_metrics_that_agree_stand_side_by_side():
    names = ["adcc", "gini", "insertion", "entropy"]
    rho = np.full((4, 4), -0.2)
    rho[0, 2] = rho[2, 0] = rho[1, 3] = rho[3, 1] = 0.9
    square = concord.matrix(table(names, rho))
    assert (square.index == square.columns).all() and (np.diag(square) == 1).all()
    places = {name: i for i, name in enumerate(square.index)}
    assert abs(places["adcc"] - places["insertion"]) == abs(places["gini"] - places["entropy"]) == 1
    assert square.loc["adcc", "insertion"] == 0.9


def test_it_is_drawn_with_and_without_truth_and_with_gaps(tmp_path):
    for names in (["adcc", "arcc", "truth"], ["adcc", "arcc", "gini"]):
        rho = np.array([[1, 0.4, np.nan], [0.4, 1, 0.7], [np.nan, 0.7, 1]])
        path = tmp_path / f"{names[2]}.png"
        concord.draw(path, table(names, rho))
        assert path.stat().st_size > 5000
