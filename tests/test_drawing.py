"""The cut to 8 bits that the published notebook makes, in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from kdxai import models
from kdxai.drawing import require_defined, stretched
from kdxai.errors import UserError
from kdxai.protocol import Protocol

RNG = np.random.default_rng(0)


def exact(image, mean, std):
    """uint8 [H, W, C] -> the same, every number a fraction until it is cut."""
    known = {
        (k, p): (Fraction(int(p), 255) - Fraction(m)) / Fraction(s)
        for k, (m, s) in enumerate(zip(mean, std, strict=True))
        for p in np.unique(image[..., k])
    }
    low, high = min(known.values()), max(known.values())
    span = high - low or Fraction(1)
    cut = {key: (255 * (value - low) / span).__floor__() for key, value in known.items()}
    return np.array([[[cut[k, p] for k, p in enumerate(pixel)] for pixel in row] for row in image])


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
        ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.1307,), (0.3081,)),
        ((0.0,), (1.0,)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_pixel_is_cut_as_exact_numbers_are(mean, std, dtype):
    images = []
    for _ in range(12):
        low, high = sorted(RNG.integers(0, 256, 2))
        images.append(RNG.integers(low, high + 1, (16, 16, len(mean))).astype(np.uint8))
    images.append(np.full_like(images[0], 7))
    mean, std = dtype(mean), dtype(std)
    expected = [exact(image, mean.tolist(), std.tolist()) for image in images]
    np.testing.assert_array_equal(stretched(np.stack(images), mean, std), expected)


@pytest.mark.parametrize(
    ("name", "options"), [("convnext-1-1-1-1-w4", {}), ("vit-1-8-2", {"pool": "token"})]
)
def test_cam_of_a_head_that_is_on_no_average(name, options):
    model = models.create(name, num_classes=3, **options)
    for protocol in (Protocol(), Protocol(foreign_head=True)):
        with pytest.raises(UserError, match="CAM needs a linear head on the global average .* use"):
            require_defined(model, protocol, masks=False)
    require_defined(model, Protocol("grad_cam"), masks=False)
    require_defined(models.create("vit-1-8-2", num_classes=3), Protocol(), masks=False)
