"""What means hide: the values of single images, and how sure models are of their answers.

`records` have a row per model, seed and image, by one method; `slots` are model -> slot, of the
models that are drawn, the first on top.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdxai.report import titles
from kdxai.report.charts import look, models
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.look import SOFT, WIDTH
from kdxai.study.stats import BINS

DOTS = 400  # images in a scatter plot
FEW = 5  # images of a bin that tell its accuracy


@look.styled
def distribution(records: pd.DataFrame, metric: str, slots: Mapping[str, int]) -> Chart:
    """How many images have which value, a row for each model, with the median."""
    values = {name: records[metric][records.model == name].to_numpy() for name in slots}
    every = np.concatenate([*values.values()])
    bins = np.linspace(every.min(), every.max() + 0.01 * (np.ptp(every) == 0), 25)
    shares = {name: np.histogram(own, bins)[0] / len(own) for name, own in values.items()}
    highest = max(own.max() for own in shares.values())
    high = 36.0 * len(slots)
    figure = look.new_figure(WIDTH, high + 30)
    ax = look.add_axes(figure, models.NAMES, 4, WIDTH - models.NAMES - 18, high)
    look.values_axis(ax, every.min(), every.max())
    says = []
    for y, (name, slot) in enumerate(slots.items()):
        tops = y + 0.42 - 0.84 * shares[name] / highest
        ax.stairs(tops, bins, baseline=y + 0.42, fill=True, color=look.colour(slot), alpha=0.4)
        low, middle, up = np.quantile(values[name], (0.25, 0.5, 0.75))
        said = f"median {middle:.3f}, half of the images from {low:.3f} to {up:.3f}"
        says.append(f"{titles.model(name)}: {said}")
        look.mark(ax, middle, y + 0.42, slot, says[-1])
    look.rows(ax, [titles.model(name) for name in slots], models.LETTERS)
    return Chart(
        name=f"distribution-{metric}",
        title=f"{titles.metric(metric)} of single images",
        description=f"{titles.metric(metric)} of single images. {'; '.join(says)}.",
        figure=figure,
        says=says,
    )


@look.styled
def paired(
    records: pd.DataFrame, metric: str, pair: Sequence[str], slots: Mapping[str, int]
) -> Chart:
    """One model's value of every image against another's; means of their networks.

    Args:
      pair: the model that goes up and the one that goes across.
    """
    one, other = pair
    table = records.pivot_table(metric, "image", "model")[[one, other]].dropna()
    up, across = table[one].to_numpy(), table[other].to_numpy()
    figure = look.new_figure(WIDTH, 300)
    ax = look.add_axes(figure, 62, 8, WIDTH - 80, 252)
    ends = float(table.min().min()), float(table.max().max())
    look.values_axis(ax, *ends)
    look.upright(ax, *ends)
    ax.plot(ends, ends, color=SOFT, lw=1)
    dots = look.shape(slots[one], 5) | {"marker": "o", "mew": 0, "mfc": look.colour(slots[one])}
    # Not the first ones: a test split may be in the order of its classes.
    drawn = np.linspace(0, len(table) - 1, min(DOTS, len(table))).astype(int)
    ax.plot(across[drawn], up[drawn], **dots, alpha=0.35)
    ax.set_xlabel(f"{titles.model(other)} →", loc="right")
    ax.set_ylabel(f"{titles.model(one)} →", loc="top")
    more, less = int((up > across).sum()), int((up < across).sum())
    says = [
        f"{titles.model(one)} is above {titles.model(other)} on {more} of {len(table)} images, "
        f"below on {less}"
    ]
    if np.ptp(up) > 0 and np.ptp(across) > 0:
        says.append(f"correlation over images r = {np.corrcoef(up, across)[0, 1]:.2f}")
    return Chart(
        name=f"paired-{metric}",
        title=f"{titles.metric(metric)}, image by image",
        description=f"{titles.metric(metric)} of single images: {'; '.join(says)}.",
        figure=figure,
        says=says,
        note=dot_is(records, len(table)),
    )


def dot_is(records: pd.DataFrame, images: int) -> str:
    """What is drawn of so many images, and what of several networks."""
    which = "A dot is a test image"
    if images > DOTS:
        which = f"The dots are {DOTS} of the {images:,} test images measured, evenly spaced"
    means = ", by the mean of a model's networks" if records.seed.nunique() > 1 else ""
    return f"{which}{means}."


def reliable(rows: pd.DataFrame) -> pd.DataFrame:
    """A model's confidence, accuracy and number of images in each bin of its confidence."""
    confidence, right = rows.confidence.to_numpy(), (rows.predicted == rows.label).to_numpy()
    bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1)
    table = pd.DataFrame({"bin": bins, "confidence": confidence, "accuracy": right, "images": 1})
    return table.groupby("bin").agg({"confidence": "mean", "accuracy": "mean", "images": "sum"})


def calibration_error(rows: pd.DataFrame) -> float:
    """Of one network: the mean distance of confidence and accuracy. Naeini et al. 2015 (ECE)."""
    found = reliable(rows)
    gaps = (found.confidence - found.accuracy).abs()
    return float((gaps * found.images).sum() / found.images.sum())


def keyed(slots: Mapping[str, int], *, lines: bool = False) -> tuple[Figure, Axes]:
    """Axes for a curve of each model, below the models as of `models.key`."""
    top = models.key_height(slots, WIDTH)
    figure = look.new_figure(WIDTH, top + 292)
    models.key(figure, slots, lines=lines)
    return figure, look.add_axes(figure, 62, top, WIDTH - 80, 252)


@look.styled
def reliability(records: pd.DataFrame, slots: Mapping[str, int]) -> Chart:
    """How often answers of which confidence are right; on the line where models know that."""
    figure, ax = keyed(slots)
    for limit, axis in ((ax.set_xlim, ax.xaxis), (ax.set_ylim, ax.yaxis)):
        limit(-0.03, 1.03)
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(look.percent)
    ax.plot([0, 1], [0, 1], color=SOFT, lw=1)
    says: list[str] = []
    for name, slot in reversed(list(slots.items())):
        own = records[records.model == name]
        bins = reliable(own)
        bins = bins[bins.images >= FEW]
        ax.plot(bins.confidence, bins.accuracy, color=look.colour(slot), lw=1.4)
        for row in bins.itertuples():
            said = f"of {row.images} answers {row.confidence:.0%} sure {row.accuracy:.0%} are right"
            look.mark(ax, row.confidence, row.accuracy, slot, f"{titles.model(name)}: {said}", 6)
        error = np.mean([calibration_error(rows) for _, rows in own.groupby("seed")])
        says.insert(0, f"{titles.model(name)}: expected calibration error {error:.3f}")
    ax.set_xlabel("confidence →", loc="right")
    ax.set_ylabel("answers that are right →", loc="top")
    return Chart(
        name="reliability",
        title="Confidence and accuracy",
        description=f"{'; '.join(says)}.",
        figure=figure,
        says=says,
        note=f"{BINS} bins of confidence, those of {FEW} answers or more",
    )


@look.styled
def removal(records: pd.DataFrame, slots: Mapping[str, int]) -> Chart:
    """The answer's mean probability while pixels go (dashed) or come, the most relevant first:
    the columns `deletion_...` and `insertion_...`, by percent of pixels.
    """
    figure, ax = keyed(slots, lines=True)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(look.percent)
    ax.yaxis.set_major_formatter(look.percent)
    ax.set_xlabel("pixels moved, the most relevant first →", loc="right")
    ax.set_ylabel("probability of the class explained →", loc="top")
    says: list[str] = []
    for name, slot in reversed(list(slots.items())):
        means = records[records.model == name].mean(numeric_only=True)
        told = []
        for which, dash in (("insertion", "-"), ("deletion", (0, (4, 2)))):
            points = percents(records, which)
            values = [means[f"{which}_{percent}"] for percent in points]
            ax.plot(np.array(points) / 100, values, color=look.colour(slot), ls=dash, lw=1.8)
            told.append(f"{which} {', '.join(f'{value:.2f}' for value in values)}")
        says.insert(0, f"{titles.model(name)}: {'; '.join(told)}")
    steps = ", ".join(map(str, percents(records, "deletion")))
    return Chart(
        name="removal",
        title="Insertion (solid) and deletion (dashed)",
        description=f"Mean probability at {steps} % of the pixels. {'. '.join(says)}.",
        figure=figure,
        says=says,
    )


def percents(records: pd.DataFrame, which: str) -> list[int]:
    """At which percents of the pixels the records have a point of a curve; empty: none."""
    ends = [name.removeprefix(f"{which}_") for name in records if name.startswith(f"{which}_")]
    return sorted(int(end) for end in ends if end.isdecimal())
