"""What a study asks before anything runs; and the sizes of chunks."""

import sys
from types import SimpleNamespace

import jax
import networks
import numpy as np
import pandas as pd
import pytest

from kdxai import evaluate
from kdxai.data import stream
from kdxai.data.sources import Split
from kdxai.errors import UserError
from kdxai.protocol import Protocol
from kdxai.study import alike, measure, run
from kdxai.study.members import Member
from kdxai.study.records import Shelf


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


class Counted:
    """Images that tell how many of them are read at once."""

    def __init__(self, image):
        self.image, self.most = image, 0

    def __getitem__(self, rows):
        self.most = max(self.most, len(rows))
        return self.image[rows]


def test_streamed_images_are_measured_as_if_in_memory_and_never_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys.modules["kdxai.evaluate.chunks"],
        "IN_FLIGHT",
        8 * 2 * 16 * 16 // jax.local_device_count(),
    )
    image = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), np.uint8)
    counted = Counted(image)
    images = np.arange(1, 60, 2)
    found = []
    for source in (image, stream.Records(counted, np.arange(60), (16, 16, 3), "")):
        split = Split(source, np.arange(60) % 3, None)
        shelf = Shelf(tmp_path / str(len(found)))
        shelf.directory.parent.mkdir()
        monkeypatch.setattr(shelf, "images", lambda *_: "")  # which it reads too
        columns = {"model": "a", "seed": 0, "method": "grad_cam"}
        protocol = Protocol("grad_cam")
        found.append(measure.member_rows(shelf, columns, networks.mine(), protocol, split, images))
        pair = (Member(name, 0, getattr(networks, name)(), "", "0") for name in ("mine", "small"))
        alike.pair_agreement(alike.MapRequest(shelf, protocol, split, images), *pair)
    pd.testing.assert_frame_equal(*found)
    assert counted.most == 8
