"""A network whose weights were trained elsewhere, as a model directory.

    python launch/import.py --config configs/import.py --config.weights=resnet20.safetensors \\
        --config.model.name=resnet20 --config.mean=0.4914,0.4822,0.4465 \\
        --config.std=0.247,0.2435,0.2616 --workdir runs/resnet20

safetensors, and PyTorch's .pt, .pth and .th where `kdxai[torch]` is installed. `mean` and `std` are
those by which the network's images were normalised, of pixels in [0, 1]. The accuracy on the test
images of `data` is measured: 10,000 of CIFAR-10 take a ResNet-20 a minute on one CPU core.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from kdxai.training import config as training


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "weights": "",  # a file
            "model": {"name": placeholder(str)},  # as of kdxai.models.create
            "mean": (),  # one number for each channel
            "std": (),
            "data": training.data() | {"name": "cifar10"},
        }
    )
