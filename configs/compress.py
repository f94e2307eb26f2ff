"""A compressed model, as a model directory made of another's.

    python launch/compress.py --config configs/compress.py --config.parent=runs/teacher \\
        --config.kind=prune --config.prune.sparsity=0.75 --workdir runs/pruned

`kind` is `quantise` (2 to 8 bits; `quantise.activations=True` for int8 throughout), `prune` (single
weights; `prune.by=random` is its control), `structured` (whole channels), `factorise` or `none`.
`batch_norm=2048` re-estimates BatchNorm's statistics on so many training images. `tune.epochs=1`
trains what is left, by the settings of a training run (`tune.optim.lr`), with zeros held;
`tune.teacher=parent` does so with the logits of the network that was compressed. `rounds=3` prunes
and tunes in turn.

The accuracy on the test images of `data` is measured, and what the compression is worth: non-zeros,
bits, bytes, multiply-adds, seconds per image. Without training it takes a ResNet-20 on CIFAR-10
about a minute on one CPU core; an epoch of training takes it two minutes on two.
"""

from ml_collections import ConfigDict

from kdxai.study import compressions
from kdxai.training import config as training


def get_config() -> ConfigDict:
    config = compressions.default()
    with config.unlocked():
        config.data = training.data()  # name None: that of the parent
    return config
