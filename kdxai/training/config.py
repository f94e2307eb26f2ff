"""Every setting of a training run, with its default."""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def data() -> dict[str, Any]:
    """A data set, as `datasets.load` takes it."""
    return {
        "name": placeholder(str),
        "data_dir": placeholder(str),  # of TFDS, of train.npz and test.npz, or of pictures
        "train_size": placeholder(int),  # images to train on; None: all that are left
        "validation_size": placeholder(int),  # None: a tenth of the training split
        "resident_mib": placeholder(int),  # more images than that stream; None: by memory
        "size": placeholder(int),  # of name=folder: pixels a side that pictures are made
        "test_share": placeholder(float),  # of name=folder without train/, test/; None: 0.2
    }


def default() -> ConfigDict:
    """The published Wide ResNet recipe on CIFAR-10; configs change what differs."""
    return ConfigDict(
        {
            "seed": 0,  # initialisation, order of the examples, dropout
            "epochs": 200,  # 0: keep the fresh weights, as a control
            "batch_size": 128,  # global, over all devices
            "data": data() | {"name": "cifar10"},
            "augment": {
                "seed": 0,  # view of example i in epoch e depends on (augment.seed, e, i) alone
                "pad": 4,
                "flip": True,
                "alternate": placeholder(bool),  # flip in every second epoch, not at random
                "cutout": 0,
            },
            "model": {
                "name": "wrn-28-10",
                "dropout": 0.0,
                "patch": placeholder(int),  # pixels a side, of ViT and ConvNeXt; None: the usual
                "pool": placeholder(str),  # mean, token: what the head of a ViT is on; None: mean
                "dtype": "auto",  # bfloat16 where that is faster, else float32
            },
            "optim": {
                "name": placeholder(str),  # sgd, adamw; None: sgd
                "lr": 0.1,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 5e-4,
                "schedule": "cosine",  # "step" (x step_factor at step_at x epochs), "triangle"
                "step_at": (0.3, 0.6, 0.8),
                "step_factor": 0.2,
                "warmup_epochs": 0.0,
                "label_smoothing": 0.0,
                "bias_factor": placeholder(float),  # x the learning rate, of BatchNorm's biases
                "head_factor": placeholder(float),  # the same, of the head
                "lookahead": placeholder(float),  # decay in a step of Lookahead's slow weights
            },
            "start": placeholder(str),  # a model's directory, whose weights are the first
            "hold_zeros": placeholder(bool),  # kernels' weights that are zero at the start stay so
            # What is minimised; a setting that it does not read is refused. None: as published.
            "objective": {
                "name": placeholder(str),  # of training.objectives; None: by the teacher
                "weight": placeholder(float),  # of what it adds to another loss
                "smoothing": placeholder(float),  # of label_smoothing
                "beta": placeholder(float),  # of the classes other than the label's, in dkd
                "standardise": placeholder(bool),  # logits, before they are softened
                "student_stages": (),  # whose feature maps are compared, in pairs; (): the last
                "teacher_stages": (),
            },
            # A model's directory, or file.py:function that returns a kdxai.External; "": none.
            "teacher": "",
            "distill": {
                "temperature": 6.0,
                "alpha": 0.95,
            },
        }
    )


def airbench() -> ConfigDict:
    """A recipe for the networks `airbench-A-B-C`, from airbench94 (Jordan 2024).

    Its rate and decay by example, its momentum, triangle, Lookahead, alternating flips and fast
    biases. What differs is for few epochs with an average where airbench has a maximum: batches of
    250, a quarter of the factor of the biases, and `head_factor`, which does what its 1/9 of the
    logits does; validation images chose them. Statistics of BatchNorm are averaged as everywhere
    here, labels are not smoothed.
    """
    config = default()
    config.model.name = "airbench-64-256-256"
    config.epochs = 12
    config.batch_size = 250
    config.data.validation_size = 1000
    config.augment.update(pad=2, alternate=True)
    config.optim.update(
        lr=0.37,
        momentum=0.85,
        weight_decay=1.3e-3,
        schedule="triangle",
        bias_factor=16.0,
        head_factor=0.05,
        lookahead=0.95,
    )
    return config
