"""Writes metrics_quantus.json: values of Quantus 0.6.0, an independent implementation in NumPy.

    python tests/references/metrics_quantus.py

Needs `pip install "quantus[torch]==0.6.0"`; the tests read the stored file and need neither.

Where Quantus cannot serve as the reference:
- `gini_coeffiient` adds 1e-7 to every value, so it is not free of scale: 0.313 for a map in [0, 1]
  falls to 0.107 for the same map times 1e-7. The maps here are of order 1.
- `entropy` is NaN for a zero map, which is left out.
- `ROAD.evaluate_batch` sorts a [1, H, W] map broadcast to the three channels of an RGB image and
  indexes an H W mask with the resulting 3 H W positions: IndexError. Its imputation itself,
  `noisy_linear_imputation`, is right on RGB and used here.
"""

import json
from pathlib import Path

import numpy as np
from quantus.functions.complexity_func import discrete_entropy, entropy, gini_coeffiient
from quantus.functions.perturb_func import noisy_linear_imputation

rng = np.random.default_rng(0)
uniform = rng.random((8, 8)).round(4)
MAPS = {
    "uniform": uniform,
    "sparse": np.where(uniform > 0.8, uniform, 0.0),
    "skewed": (uniform**4).round(6),
    "constant": np.full((8, 8), 0.25),
}
image = rng.normal(size=(7, 10, 3)).round(4)
removed = rng.random((7, 10)) < 0.6
channels_first = np.moveaxis(image, -1, 0)
imputed = noisy_linear_imputation(channels_first, np.flatnonzero(removed), noise=0.0)

grid = np.zeros((1, 8, 8))  # Quantus reads the shape of the image, [C, H, W]
reference = {
    "maps": {
        name: {
            "map": heatmap.tolist(),
            "entropy": float(entropy(heatmap, grid)),
            "gini": float(gini_coeffiient(heatmap, grid)),
            "histogram_entropy": float(discrete_entropy(heatmap, grid, n_bins=100)),
        }
        for name, heatmap in MAPS.items()
    },
    "road": {
        "image": image.tolist(),
        "removed": removed.tolist(),
        "imputed": np.moveaxis(imputed, 0, -1).round(7).tolist(),
    },
}
Path(__file__).with_suffix(".json").write_text(json.dumps(reference) + "\n")
