"""38 public networks for CIFAR-10: how far do equally good ones differ, and does size change maps?

    KDXAI_ZOO=weights python launch/study.py --config configs/zoo.py --workdir runs/zoo

`weights` is a folder with the files below, fetched from where docs/zoo.md says and saved as
safetensors or left as PyTorch's (`--config.models.resnet56_pruned.weights=...` names others).

Populations of ResNet-20, -32, -44 and -56; `held_out_20` and `held_out_56`, on which nothing was
decided; and two pairs that are single networks, so that what is said of them describes, and does
not generalise: a ResNet-56 and what structured pruning and retraining left of it, and a ResNet-20
trained as usual and one trained adversarially. Every file is the epoch that was best on the *test*
images, so accuracies flatter a little.

The claims were declared before the first run. 1,000 images by three methods take two CPU cores
about half an hour. `configs/zoo.py:gradients` draws Integrated Gradients and SmoothGrad, which take
many passes, of the five replicates and 200 images.
"""

import os
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict, FieldReference

from kdxai.errors import UserError
from kdxai.study import config as studies
from kdxai.training import config as training

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CIFAR10 = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
# Five runs of one recipe: true replicates.
REPLICATES = tuple(f"resnet20-dansun18-8-{run}" for run in range(1, 6))
POPULATIONS = {
    "resnet20": (
        *REPLICATES,
        "resnet20-akamaster",
        *(f"resnet20-dansun18-{run}" for run in (1, 2, 4, 5)),
        *(f"resnet20-dansun18-9-{run}" for run in ("1", "2", "2-1", "2-2", "2-3", "3")),
    ),
    "resnet32": ("resnet32-akamaster", *(f"resnet32-dansun18-{run}" for run in (1, 4, 5))),
    "resnet44": ("resnet44-akamaster", *(f"resnet44-dansun18-{run}" for run in (1, 4, 5))),
    "resnet56": (
        "resnet56-akamaster",
        *(f"resnet56-dansun18-{run}" for run in ("3", "5", "6-1", "6-2", "6-3")),
    ),
    "held_out_20": ("resnet20-zheng",),
    "held_out_56": (
        "resnet56-zheng",
        "resnet56-etodemerzel-base",
        "resnet56-etodemerzel-no_compress",
    ),
    "dense_56": ("resnet56-torch-pruning-dense",),
    "pruned_56": ("resnet56-torch-pruning-pruned",),
    "standard_20": ("resnet20-ehanw",),
    "robust_20": ("resnet20-pgd-ehanw",),
}
ROLES = {
    "resnet20": "16 networks, 0.27 million parameters",
    "resnet32": "4 networks, 0.46 million parameters",
    "resnet44": "4 networks, 0.66 million parameters",
    "resnet56": "6 networks, 0.85 million parameters",
    "held_out_20": "a ResNet-20 that nothing was decided on",
    "held_out_56": "three ResNet-56 that nothing was decided on",
    "dense_56": "a ResNet-56 of another trainer",
    "pruned_56": "the same after structured pruning and retraining, 2.9 times smaller",
    "standard_20": "a ResNet-20 of another trainer",
    "robust_20": "the same, trained adversarially",
}


def population(*networks: str) -> ConfigDict:
    """Imported networks of one architecture, as a model of a study."""
    folder = Path(os.environ.get("KDXAI_ZOO", "weights"))
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder} of weights; docs/zoo.md says where each can be fetched, "
            "and KDXAI_ZOO names the folder"
        )
    recipe = runpy.run_path(str(Path(__file__).with_name("import.py")))["get_config"]()
    files = tuple(str(folder / f"{network}.safetensors") for network in networks)
    return studies.model(
        "import",
        recipe,
        weights=FieldReference(files, object),  # text with commas does as well
        **{"model.name": networks[0].partition("-")[0]},
        **(CIFAR10 if "torch-pruning" in networks[0] else IMAGENET),
    )


def claims() -> dict[str, dict[str, str | float]]:
    """The paper's first three claims on one 8x8 grid, and what seeds alone do.

    The margins are those of the paper's study: 0.02, half of what it found in average drop.
    """
    found: dict[str, dict[str, str | float]] = {}
    for size in ("resnet44", "resnet32", "resnet20"):
        pair = (size, "resnet56")
        found |= {
            f"{size}_drop": studies.claim(
                "A smaller network drops less", "average_drop", pair, "lower", 0.02
            ),
            f"{size}_complexity": studies.claim(
                "A smaller network's maps are less complex", "complexity", pair, "lower", 0.02
            ),
            f"{size}_coherency": studies.claim(
                "A smaller network's maps are more coherent", "ssim", pair, "higher", 0.02
            ),
            f"{size}_noise": studies.claim(
                "A smaller network's maps are further away than another seed's",
                "pairwise_pearson",
                pair,
                "beyond_noise",
                0.02,
            ),
        }
    for name in ("pruned_56", "dense_56"):
        found[f"{name}_noise"] = studies.claim(
            "This network's maps are further away than another seed's",
            "pairwise_pearson",
            (name, "resnet56"),
            "beyond_noise",
            0.02,
        )
    robust = ("robust_20", "standard_20")
    return found | {
        "robust_adcc": studies.claim(
            "Robust networks explain better", "adcc", robust, "higher", 0.02
        ),
        "robust_drop": studies.claim(
            "Robust networks drop less", "average_drop", robust, "lower", 0.02
        ),
    }


def get_config(recipe: str = "populations") -> ConfigDict:
    if recipe == "gradients":
        kept = {"resnet20": REPLICATES, "held_out_20": POPULATIONS["held_out_20"]}
        config = study(kept, "resnet20")
        config.evaluation.update({"methods": "cam,integrated_gradients,smooth_grad", "images": 200})
        return config
    if recipe != "populations":
        raise UserError(f"zoo.py has the recipe gradients, or none, not '{recipe}'")
    config = study(POPULATIONS, "resnet56", ("robust_20", "standard_20"))
    config.claims = claims()
    return config


def study(
    populations: Mapping[str, Sequence[str]], reference: str, *more: tuple[str, str]
) -> ConfigDict:
    """A study of populations, each compared with one of them.

    Args:
      more: further pairs to be compared.
    """
    config = studies.study(
        training.data() | {"name": "cifar10"},
        {name: population(*networks) for name, networks in populations.items()},
        title="Do equally good networks look at the same things?",
        order=tuple(populations),
        roles={name: ROLES[name] for name in populations},
        reference=reference,
        compare=(*((name, reference) for name in populations if name != reference), *more),
    )
    config.evaluation.whole = False
    config.evaluation.methods = "cam,grad_cam_plus_plus,layer_cam"
    config.evaluation.sanity = 0
    return config
