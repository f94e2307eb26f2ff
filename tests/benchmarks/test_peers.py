"""The PyTorch peers do the same work; skipped where they are not installed."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_benchmark import CONFIG

from benchmarks import run
from benchmarks.tasks import TASKS
from kdxai.errors import UserError

try:
    from benchmarks import peers
except ImportError as error:
    pytest.skip(f"the PyTorch peers are not installed: {error}", allow_module_level=True)


@pytest.fixture(scope="module")
def inputs():
    return run.inputs(ConfigDict(CONFIG | {"model": "resnet10-w4"}))


@pytest.mark.parametrize("name", ["resnet18-w4", "airbench-4-6-8"])
def test_the_converted_network_gives_the_same_logits(name):
    inputs = run.inputs(ConfigDict(CONFIG | {"model": name}))
    ours = inputs.trained.model.apply(inputs.trained.variables, inputs.images)
    with peers.torch.no_grad():
        theirs = peers.convert(inputs)(peers.images_of(inputs)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("name", list(peers.PEERS))
def test_every_peer_agrees(name, inputs):
    _, *rows = run.compare(TASKS[name], peers.PEERS[name], inputs.first(2), 1, limit=60)
    for row in rows:
        assert row.ratio is not None, row
        least = 0.99 if row.note else 0.999
        # Two maps of other random numbers have in common what is not chance.
        assert row.agreement > (0.3 if row.note == peers.OWN_DRAWS else least), row


def test_values_not_only_shapes_agree(inputs):
    """Pearson's r would not see a factor."""
    for name in ("deletion", "adcc"):
        ours = TASKS[name].build(inputs).call()
        for peer in peers.PEERS[name]:
            # ADCC: the library's maps are a few percent larger.
            atol = 0.05 if peer.differs else 1e-4
            np.testing.assert_allclose(peer.build(inputs).call(), ours, atol=atol)


def test_an_airbench_network_trains_alike():
    inputs = run.inputs(ConfigDict(CONFIG | {"model": "airbench-4-6-8"}))
    ours, theirs = TASKS["train_step"].build(inputs), peers.train_step(inputs)
    for _ in range(3):
        np.testing.assert_allclose(ours.call(), theirs.call(), rtol=1e-3)


def test_others_are_not_converted():
    inputs = run.inputs(ConfigDict(CONFIG | {"model": "wrn-10-1"}))
    with pytest.raises(UserError, match="model=resnet18"):
        peers.convert(inputs)
