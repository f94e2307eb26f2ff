"""Writes metrics_quantus.json: values of Quantus 0.6.0, an independent implementation in NumPy.

And ARCC of the library grad-cam 1.5.7, which is by the authors of the metric.

    python tests/references/metrics_quantus.py

Needs `pip install "quantus[torch]==0.6.0" grad-cam==1.5.7`; the tests read the stored file and need
neither.

Where Quantus cannot serve as the reference:
- `gini_coeffiient` adds 1e-7 to every value, so it is not free of scale: 0.313 for a map in [0, 1]
  falls to 0.107 for the same map times 1e-7. The maps here are of order 1.
- `entropy` is NaN for a zero map, which is left out.
- `ROAD.evaluate_batch` sorts a [1, H, W] map broadcast to the three channels of an RGB image and
  indexes an H W mask with the resulting 3 H W positions: IndexError. Its imputation itself,
  `noisy_linear_imputation`, is right on RGB and used here.
- `SensitivityN` removes one sequence of growing sets by rank, and correlates over the images of a
  batch for each size; Ancona et al. 2018 draw sets at random and correlate over them.
- `Infidelity` goes on from the image that the last patch has left, so its perturbations are not
  single patches but growing unions of them: the test restates those.
- `Monotonicity` puts the baseline's values into the baseline, so that its image never changes and
  its answer is True for every map.
- `IROF` leaves the whole image out of the area and does not divide by the number of segments.
- `Completeness` and `InputInvariance` compare floating-point numbers for equality.
"""

import json
from pathlib import Path

import numpy as np
import quantus
import torch
from pytorch_grad_cam.metrics.arcc import ARCC
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from quantus.functions.complexity_func import discrete_entropy, entropy, gini_coeffiient
from quantus.functions.perturb_func import noisy_linear_imputation
from quantus.helpers import utils

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

# A network of 8x8 images with probabilities that are not near 0 or 1, and its maps.
FIRST, SECOND = rng.normal(size=(6, 64)).round(3) / 4, rng.normal(size=(3, 6)).round(3)
PIXELS, TARGET, BASELINE = rng.normal(size=(8, 8)).round(4), 1, 0.25
SIGNED = rng.normal(size=(8, 8)).round(4)
POSITIVE = (1 + uniform).round(4)
MASK = rng.random((8, 8)) < 0.3
NOISY = (PIXELS + rng.normal(size=(5, 8, 8)) / 20).round(4)
SQUARES = np.arange(8)[:, None] // 2 * 4 + np.arange(8) // 2


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = torch.nn.Linear(64, 6), torch.nn.Linear(6, 3)
        for layer, weight in ((self.hidden, FIRST), (self.head, SECOND)):
            layer.weight.data = torch.tensor(weight)
            layer.bias.data = torch.zeros(len(weight), dtype=torch.float64)

    def forward(self, x):
        return self.head(torch.nn.functional.softplus(self.hidden(x.flatten(1).double())))


def heat(image):
    """A map without zeros that depends on the image."""
    return 2 + image**2 + np.sin(3 * image)


def of_batch(metric, heatmap, **options):
    """The metric's score of the one image."""
    return metric(
        model=Network().eval(),
        x_batch=PIXELS[None, None],
        y_batch=np.array([TARGET]),
        a_batch=heatmap[None, None],
        softmax=True,
        **options,
    )[0]


def by_removal():
    plain = {"abs": False, "normalise": False, "disable_warnings": True}
    plain["perturb_baseline"] = BASELINE
    steps = plain | {"features_in_step": 4}
    np.random.seed(1)
    subsets = [np.random.choice(64, 13, replace=False).tolist() for _ in range(20)]
    np.random.seed(1)
    bhatt = quantus.FaithfulnessCorrelation(subset_size=13, nr_runs=20, **plain)
    np.trapz = np.trapezoid  # as NumPy 1 calls it
    utils.get_superpixel_segments = lambda img, segmentation_method: SQUARES
    selectivity = quantus.Selectivity(patch_size=2, **plain)
    infidelity = quantus.Infidelity(n_perturb_samples=1, perturb_patch_sizes=[2], **plain)
    return {
        "subsets": subsets,
        "faithfulness_correlation": of_batch(bhatt, SIGNED),
        "faithfulness_estimate": of_batch(quantus.FaithfulnessEstimate(**steps), SIGNED),
        "monotonicity_correlation": of_batch(
            quantus.MonotonicityCorrelation(nr_samples=1, **steps), POSITIVE
        ),
        "infidelity": of_batch(infidelity, SIGNED),
        "irof": of_batch(quantus.IROF(**plain), SIGNED),
        "selectivity": np.ravel(of_batch(selectivity, SIGNED)).tolist(),
    }


def by_noise():
    """Each metric sees the same noisy images."""

    def noisy(found):
        rest = iter(found)
        return lambda arr, indices, **_: next(rest).reshape(1, -1)

    plain = {"abs": False, "normalise": False, "disable_warnings": True, "nr_samples": len(NOISY)}
    metrics = {
        "lipschitz": quantus.LocalLipschitzEstimate,
        "relative_input": quantus.RelativeInputStability,
        "relative_output": quantus.RelativeOutputStability,
        "relative_representation": quantus.RelativeRepresentationStability,
    }
    values = {}
    for name, metric in metrics.items():
        layer = {"layer_names": ["hidden"]} if name == "relative_representation" else {}
        explain = lambda model, inputs, targets, **_: heat(inputs)  # noqa: E731
        one = metric(perturb_func=noisy(NOISY), **layer, **plain)
        softmax = name != "relative_output"  # of logits, as Agarwal et al. define it
        values[name] = one(
            model=Network().eval(),
            x_batch=PIXELS[None, None],
            y_batch=np.array([TARGET]),
            a_batch=heat(PIXELS)[None, None],
            softmax=softmax,
            explain_func=explain,
        )[0]
    return {name: float(value) for name, value in values.items()}


def by_rank():
    masks = MASK[None, None]
    options = {"abs": False, "normalise": False, "disable_warnings": True}
    top = quantus.TopKIntersection(k=6, concept_influence=False, **options)
    return {
        "auc": float(of_batch(quantus.AUC(**options), POSITIVE, s_batch=masks)),
        "top_k_intersection": float(of_batch(top, POSITIVE, s_batch=masks)),
    }


def by_arcc():
    """Of a map in [0, 1], and one that stands for the map of the masked image."""
    NoisyLinearImputer.__init__.__defaults__ = (0.0, *NoisyLinearImputer.__init__.__defaults__[1:])
    heatmap, masked = ((m - m.min()) / np.ptp(m) for m in (SIGNED, SIGNED + uniform))
    metric = ARCC(lambda input_tensor, targets: masked[None])
    targets = [lambda logits: logits.softmax(-1)[TARGET]]
    image = torch.tensor(PIXELS[None, None], dtype=torch.float32)
    return {
        "heatmap": heatmap.tolist(),
        "masked": masked.tolist(),
        "road": float(metric.road(image, heatmap[None], targets, Network())[0]),
        "arcc": float(metric(image, heatmap[None], targets, Network())[0]),
    }


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
    "network": {
        "first": FIRST.tolist(),
        "second": SECOND.tolist(),
        "image": PIXELS.tolist(),
        "target": TARGET,
        "baseline": BASELINE,
        "signed": SIGNED.tolist(),
        "positive": POSITIVE.tolist(),
        "mask": MASK.tolist(),
        "noisy": NOISY.tolist(),
    },
    "removal": by_removal(),
    "noise": by_noise(),
    "rank": by_rank(),
    "arcc": by_arcc(),
}
Path(__file__).with_suffix(".json").write_text(json.dumps(reference) + "\n")
