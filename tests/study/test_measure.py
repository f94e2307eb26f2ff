"""What a study asks before anything runs; and the sizes of chunks."""

from types import SimpleNamespace

import numpy as np
import pytest

from kdxai import evaluate
from kdxai.errors import UserError
from kdxai.protocol import Protocol
from kdxai.study import run


def test_too_few_classes_for_mosaics_are_refused_before_anything_runs():
    what = SimpleNamespace(protocols=[], extra=["grid"])
    test = SimpleNamespace(label=np.array([0, 0, 1, 1, 2, 2]), mask=None)
    with pytest.raises(UserError, match="'grid' needs 4 classes"):
        run.require_defined(None, what, SimpleNamespace(test=test))


@pytest.mark.parametrize(
    ("method", "extra", "images"),
    [
        ("cam", [], 128),
        ("cam", ["cascade", "randomisation"], 128),
        ("cam", ["grid"], 32),
        ("cam", ["grid", "road"], 12),
        ("score_cam", [], 8),
        ("score_cam", ["grid"], 2),
        ("score_cam", ["sensitivity"], 1),
        ("smooth_grad", [], 16),
    ],
)
def test_the_memory_in_flight_is_bounded(method, extra, images):
    assert evaluate.chunk_size(Protocol(method=method), extra, (32, 32)) == images
