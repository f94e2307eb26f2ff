"""Train one model, from a config to a model directory."""

import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kdxai import devices, files
from kdxai.data import datasets
from kdxai.data.datasets import Dataset
from kdxai.models import trained
from kdxai.models.trained import Trained
from kdxai.training import checkpoints, history, hosts, runs, signals, starts
from kdxai.training import state as states
from kdxai.training.checkpoints import Checkpoints
from kdxai.training.checks import check, require_teacher
from kdxai.training.epochs import evaluate_split, fit
from kdxai.training.feed import place
from kdxai.training.program import Program, architecture, build, compute_dtype, create_model


def train(config: ConfigDict, workdir: str | Path, dataset: Dataset) -> dict[str, Any]:
    """Train to the end, continuing what is in `workdir`; a finished run is only read.

    Writes `config.json`, `history.csv` (a row per epoch), `checkpoints/`, `tensorboard/` and, last
    of all, the model: see `models.trained`. Ctrl-C and SIGTERM end it after the step under way,
    with the state saved.

    Returns:
      The facts of the model. The accuracies are of the best validation checkpoint.

    Raises:
      UserError: bad settings, another config's directory, one of other data or of another teacher,
        one that another process trains in, a teacher or start weights that do not fit, a loss that
        is not finite, a full disk, too little memory on a device.
      KeyboardInterrupt: on Ctrl-C, after saving.
      SystemExit: 143 on SIGTERM, after saving.
    """
    workdir = Path(workdir)
    content = {"data.data_dir": datasets.fingerprint(dataset)}
    hosts.require_same_text(
        f"{config.to_json()} {content}",
        "the processes of this run have different configs or data; give all the same",
    )
    with hosts.together():
        check(config, dataset)
        if config.teacher:
            content["teacher"] = require_teacher(config, dataset)
        if config.start:
            content["start"] = starts.require_fitting(config, dataset)
        checkpoints.folder(workdir)
    found = hosts.first_says(hosts.on_first(lambda: runs.finished(workdir)))
    hosts.on_first(lambda: runs.claim_directory(workdir, runs.recorded(config, workdir), content))
    if found:
        return hosts.first_says(hosts.on_first(lambda: found_again(config, workdir, found)))
    with (
        runs.occupied(workdir),
        signals.held() as asked,
        devices.memory("lower batch_size, or use more devices"),
    ):
        hosts.on_first(lambda: files.remove_partial(workdir))
        model = train_from_checkpoint(config, workdir, dataset, asked)
        hosts.on_first(lambda: trained.save(model, workdir))
    return dict(model.facts)


def found_again(config: ConfigDict, workdir: Path, found: dict[str, Any]) -> dict[str, Any]:
    """The facts of a finished run, its data and its teacher where they are now."""
    facts, kept = found["facts"], runs.recorded(config, workdir)
    places = {key: kept[key] for key in ("teacher", "start") if key in facts["origin"]}
    now = {"data": kept.data.to_dict(), "origin": facts["origin"] | places}
    if facts | now != facts:
        files.write_json(workdir / trained.MODEL, found | {"facts": facts | now})
    return facts | now


def train_from_checkpoint(
    config: ConfigDict, workdir: Path, dataset: Dataset, asked: signals.Held
) -> Trained:
    """`train`, from the newest checkpoint to the model."""
    dataset = starts.normalised(dataset, start := starts.load(config))
    program, rows = resume(workdir, build(config, dataset, start))
    with closing(Checkpoints(workdir)) as saved:
        fit(config, workdir, program, saved, rows, asked)
        saved.wait()
        best = saved.best(program.state)
    facts = facts_of(runs.recorded(config, workdir), dataset, program, best)
    if config.epochs:  # else it is a control that is to stay untrained
        warn_at_chance(workdir, facts["validation_accuracy"], dataset.validation.label)
    class_names = tuple(dataset.class_names)
    height, width, channels = dataset.train.image.shape[1:]
    return Trained(
        model=create_model(config, len(class_names)),
        architecture=architecture(config),
        variables=best.variables,
        mean=dataset.mean,
        std=dataset.std,
        class_names=class_names,
        image_shape=(height, width, channels),
        facts=facts | {"seconds": sum(row["seconds"] for row in rows)},
    )


def warn_at_chance(workdir: Path, accuracy: float, labels: np.ndarray) -> None:
    """Say that a network has learned nothing, which a loss that stays finite does not tell."""
    commonest = np.bincount(labels).max() / len(labels)
    if accuracy <= commonest and hosts.is_first():
        warnings.warn(
            f"{workdir} is right on {accuracy:.1%} of the validation images, as a network is that "
            "always gives one answer; lower optim.lr or objective.weight, in another --workdir",
            stacklevel=4,
        )


def resume(workdir: Path, program: Program) -> tuple[Program, list[dict[str, Any]]]:
    """The program at a run's newest checkpoint, if there is one, and the history up to there."""
    rows = hosts.first_says(hosts.on_first(lambda: history.read(workdir)))
    accuracies = {row["step"]: row["validation_accuracy"] for row in rows}
    state = checkpoints.newest(workdir, program.state, accuracies) or program.state
    rows = [row for row in rows if row["step"] <= int(state.step)]
    done = int(state.step) // program.steps_per_epoch
    if done > len(rows) and hosts.is_first():
        warnings.warn(
            f"{workdir / history.HISTORY} tells of {len(rows)} of {done} epochs; the others will "
            "lack in this run's curves",
            stacklevel=4,
        )
    return program._replace(state=state), rows


def facts_of(
    config: ConfigDict, dataset: Dataset, program: Program, best: states.TrainState
) -> dict[str, Any]:
    """What is known of the best checkpoint: see `models.trained.Trained`."""
    splits = {"validation": program.validation, "test": place(dataset.test, dataset)}
    accuracies = {
        f"{name}_accuracy": evaluate_split(program.eval_step, best.variables, split)[1]
        for name, split in splits.items()
    }
    return {
        "model": config.model.name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.variables["params"])),
        **accuracies,
        "best_epoch": int(best.step) // program.steps_per_epoch,
        "data": config.data.to_dict(),
        "data_fingerprint": datasets.fingerprint(dataset),
        "origin": {
            "kind": "train",
            "teacher": config.teacher,
            **({"start": config.start} if config.start else {}),
            **({"objective": config.objective.name} if config.objective.name else {}),
            "dtype": jnp.dtype(compute_dtype(config.model.dtype)).name,
            "machine": devices.machine(),
        },
    }
