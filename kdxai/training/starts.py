"""Weights that a training starts from: those of a model directory, its zeros held where asked."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.models.trained import Trained
from kdxai.settings import changed_settings
from kdxai.training import teacher as teachers

LEARNED = ("params", "batch_stats")  # the collections of variables that a training changes


def load(config: ConfigDict) -> Trained | None:
    """The model that a run starts from; None where it starts from fresh weights.

    Raises:
      UserError: there is no finished model, or it is damaged.
    """
    return trained.load(config.start) if config.start else None


def normalised(dataset: Dataset, start: Trained | None) -> Dataset:
    """The data set with the normalisation that the start weights are used to."""
    return dataset._replace(mean=start.mean, std=start.std) if start else dataset


def require_fitting(config: ConfigDict, dataset: Dataset) -> str:
    """The fingerprint of start weights that fit a run.

    Raises:
      UserError: as `load`; they are of another architecture, other classes or images, or have
        variables that no training changes.
    """
    start = trained.load(config.start)
    teachers.require_alike("start weights and training", start._asdict(), dataset)
    own, asked = (
        {key: _listed(value) for key, value in one.items() if key not in ("dtype", "dropout")}
        for one in (start.architecture, config.model.to_dict())
    )
    asked = {key: value for key, value in asked.items() if value is not None}
    if own != asked:
        raise UserError(
            f"the model of {config.start} is another than the one to be trained: "
            f"{changed_settings(asked, own)}; set model to what it is"
        )
    if more := sorted(set(start.variables) - set(LEARNED)):
        raise UserError(
            f"{config.start} cannot be trained further: its {more[0]} would not fit other weights; "
            "train first, then compress so"
        )
    return trained.read(config.start)["sha256"]


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def hold_zeros() -> optax.GradientTransformation:
    """Updates that leave every weight at zero that was zero when the training began.

    Of kernels alone: a bias or a BatchNorm scale of zero was not removed, it was learned. The masks
    are part of the optimiser's state, so a run that continues holds the same ones.
    """

    def init(params: optax.Params) -> optax.Params:
        return jax.tree.map(lambda leaf: (leaf != 0) | (leaf.ndim < 2), params)

    def update(
        updates: optax.Updates, state: optax.Params, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.Params]:
        del params
        return jax.tree.map(lambda kept, leaf: jnp.where(kept, leaf, 0), state, updates), state

    return optax.GradientTransformation(init, update)
