"""How far can a network be compressed before its explanations change more than by a new seed?

    python launch/study.py --config configs/compression.py --workdir runs/compression \\
        --config.models.dense.places=runs/seed0,runs/seed1,runs/seed2

takes networks that differ in their seed alone (model directories with commas between them),
compresses every one by rounding, pruning, BatchNorm estimated anew, removal of channels and
factorisation, each at several strengths, and says at which factor each kind changes the maps more
than another seed does. `configs/compression.py:tuned` also trains what pruning leaves, and the
dense network as long. `--config.share=1/4` to `4/4` spread a sweep over jobs, family by family;
what is done is not done again.

    python launch/study.py --config configs/compression.py:quick --workdir runs/compression

the same on the models of `configs/study.py:quick` in runs/quick, at fewer strengths, in 3 minutes
on two CPU cores: 3 bits (r = 0.961 with the parent) and a quarter of the weights (0.950) lie within
the seed band, 2 bits and an eighth do not. Its student and control are one architecture, the one
taught and the other not, and stand in for two seeds; better are those of `--config.seeds=2`,
`--config.models.dense.places=runs/quick/seed0/student,runs/quick/seed1/student`.

    KDXAI_ZOO=weights python launch/study.py --config configs/compression.py:zoo --workdir runs/zoo

five public ResNet-20 of one recipe, with claims of the field that were declared before the run; see
configs/zoo.py for the weights and docs/field-on-trial.md for what was found.
"""

import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FieldReference

from kdxai.errors import UserError
from kdxai.study import config as studies
from kdxai.training import config as training

DENSE = "dense"
FACTORS = (2, 4, 8, 16, 32)  # of pruning: one weight of so many is left
# Training images that BatchNorm's statistics are estimated anew on.
NORM: dict[str, Any] = {"batch_norm": 1000}

Settings = Mapping[str, Any]  # flat, of configs/compress.py


def rounded(bits: Iterable[int]) -> dict[str, Settings]:
    return {f"bits-{count}": {"kind": "quantise", "quantise.bits": count} for count in bits}


def pruned(name: str, factors: Iterable[int], **settings: Any) -> dict[str, Settings]:
    """Single weights removed, then as `settings` say."""
    return {
        f"{name}-{factor}": {"kind": "prune", "prune.sparsity": 1 - 1 / factor, **settings}
        for factor in factors
    }


def one_shot(factors: Sequence[int] = FACTORS) -> dict[str, Settings]:
    """Every kind without training, with its controls."""
    found = rounded((8, 6, 5, 4, 3, 2))
    found |= pruned("prune", factors)
    found |= pruned("norm", factors, **NORM) | {"norm-1": {"kind": "none", **NORM}}
    found |= pruned("random", factors, **{"prune.by": "random"})
    for percent in (10, 25, 50):
        share = {"kind": "structured", "structured.share": percent / 100}
        found |= {f"channels-{percent}": share, f"channels-norm-{percent}": share | NORM}
    for percent in (75, 50, 25):
        found[f"rank-{percent}"] = {"kind": "factorise", "factorise.rank": percent / 100}
    return found


def tuned(factors: Sequence[int] = FACTORS, **tune: Any) -> dict[str, Settings]:
    """Pruned and trained further, zeros held; and the dense network trained as long.

    Args:
      tune: flat settings of the training; two epochs where they say none.
    """
    tune = {f"tune.{name}": value for name, value in ({"epochs": 2} | tune).items()}
    return {"tuned-1": {"kind": "none", **tune}, **pruned("tuned", factors, **tune)}


def sweep(parent: str, compressions: Mapping[str, Settings]) -> dict[str, ConfigDict]:
    """Models of a study, each a compression of every network of a population.

    Args:
      compressions: what each is called -> what is done; such as `one_shot() | tuned()`.
    """
    recipe = runpy.run_path(str(Path(__file__).with_name("compress.py")))["get_config"]()
    before = "" if parent == DENSE else f"{parent}-"
    return {
        f"{before}{name}": studies.model("compress", recipe, parent=parent, **changes)
        for name, changes in compressions.items()
    }


def get_config(recipe: str = "usual") -> ConfigDict:
    compressions = one_shot()
    data: dict[str, Any] = {"name": "cifar10"}
    places: tuple[str, ...] = ()
    if recipe == "tuned":
        compressions |= tuned()
    elif recipe == "quick":
        compressions = rounded((8, 4, 3, 2)) | pruned("prune", (2, 4, 8))
        compressions |= pruned("norm", (2, 4, 8), **NORM) | {"norm-1": {"kind": "none", **NORM}}
        compressions |= pruned("random", (2,), **{"prune.by": "random"})
        compressions |= tuned((2, 4, 8), epochs=1)
        data = {"name": "shapes", "train_size": 2000}
        places = "runs/quick/seed0/student", "runs/quick/seed0/control"
    elif recipe == "zoo":
        return zoo()
    elif recipe != "usual":
        raise UserError(
            f"compression.py has the recipes tuned, quick and zoo, or none, not '{recipe}'"
        )
    dense = ConfigDict({"origin": "made", "places": FieldReference(places, object)})
    config = study({DENSE: dense}, {DENSE: sweep(DENSE, compressions)}, data)
    if recipe == "quick":
        config.evaluation.update({"images": 300, "sanity": 0, "gallery": 4})
    return config


def zoo() -> ConfigDict:
    """Five replicates of a ResNet-20 on CIFAR-10, with what their field claims of compression."""
    public = runpy.run_path(str(Path(__file__).with_name("zoo.py")))
    torchvision = NORM | {"border": "black"}
    compressions = {
        **rounded((8, 6, 5, 4, 3, 2)),
        **pruned("prune", FACTORS),
        **pruned("norm", (2, 4, 8), **torchvision),
        **pruned("random", (2,), **{"prune.by": "random"}),
        "channels-norm-25": {"kind": "structured", "structured.share": 0.25, **torchvision},
        "rank-50": {"kind": "factorise", "factorise.rank": 0.5},
        "rank-25": {"kind": "factorise", "factorise.rank": 0.25},
        # A short training on two cores: 400 steps of 64 images.
        **tuned(FACTORS, **{"epochs": 1, "batch_size": 64, "optim.lr": 0.05}),
    }
    config = study(
        {DENSE: public["population"](*public["REPLICATES"])},
        {DENSE: sweep(DENSE, compressions)},
        {"name": "cifar10", "train_size": 25_600},
    )
    config.claims = claims(list(compressions))
    config.evaluation.methods = "cam,grad_cam_plus_plus"
    config.evaluation.sanity = 0
    return config


def claims(names: Sequence[str]) -> dict[str, dict[str, str | float]]:
    """What papers say of compression and explanations, of these models.

    The margin is 0.02 for all: in ADCC and drop half of what the paper found in drop; in Pearson's
    r a seventh of what two seeds of a ResNet-20 differed by in a pilot. Metrics of a tuned network
    are compared with those of the dense one that was tuned as long.
    """

    def about(says: str, metric: str, one: str, other: str, way: str) -> dict[str, str | float]:
        return studies.claim(says, metric, (one, other), way, 0.02)

    moved = "Its maps differ from its parent's by more than another seed's do"  # Park 2020
    found = {
        f"{one}_noise": about(moved, "pairwise_pearson", one, DENSE, "beyond_noise")
        for one in names
    }
    rounding = "Quantised networks explain better"  # Rogers 2024
    for one in ("bits-8", "bits-4", "bits-3"):
        found[f"{one}_adcc"] = about(rounding, "adcc", one, DENSE, "higher")
    coarse = "Few bits make explanations worse"
    found["bits-2_adcc"] = about(coarse, "adcc", "bits-2", DENSE, "lower")
    # Merkle and Weber 2023, 2025; Suwal 2025; Cassano 2025.
    slight, hard = "A slight compression helps", "An aggressive compression hurts"
    for kind, against in (("prune", DENSE), ("tuned", "tuned-1")):
        for factor in (2, 4):
            one = f"{kind}-{factor}"
            found[f"{one}_adcc"] = about(slight, "adcc", one, against, "higher")
        for factor in (8, 16, 32):
            one = f"{kind}-{factor}"
            found[f"{one}_adcc"] = about(hard, "adcc", one, against, "lower")
    longer = "Training longer alone raises the drop"
    found["tuned-1_drop"] = about(longer, "average_drop", "tuned-1", DENSE, "higher")
    return found


def study(
    dense: Mapping[str, ConfigDict],
    steps: Mapping[str, Mapping[str, ConfigDict]],
    data: dict[str, Any],
) -> ConfigDict:
    """A study of populations and of their compressions, each compared with what it is made from.

    Args:
      steps: population -> `sweep` of it.
    """
    models = dict(dense)
    for its in steps.values():
        models |= its
    compare = [(name, parent) for parent, its in steps.items() for name in its]
    first, *others = dense
    config = studies.study(
        ConfigDict(training.data() | data),
        models,
        title="How far can it be compressed?",
        order=tuple(models),
        reference=first,
        compare=(*compare, *((other, first) for other in others)),
    )
    config.evaluation.whole = False
    return config
