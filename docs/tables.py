"""The tables of methods.md and metrics.md, from the code: `python docs/tables.py` renews them."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from kdxai import explain
from kdxai.explain import METHODS
from kdxai.measures import MEASURES
from kdxai.metrics import (
    adcc,
    axioms,
    coherency,
    compactness,
    complexity,
    correlation,
    faithfulness,
    localisation,
    perturbation,
    randomisation,
    regions,
    road,
    robustness,
)

DOCS = Path(__file__).parent
CHECKED = DOCS / "results" / "shapes-controls" / "report.md"  # where the truth is known
CONTROLS = ("random", "centred_gaussian", "edges")
# Passes of the methods whose options do not say them.
PASSES = {
    **dict.fromkeys(("score_cam", "ablation_cam"), "one per channel"),
    "occlusion": "one per window",
    "shapley_cam": "two",
    "refine_cam": "one per cut",
    **dict.fromkeys((*CONTROLS, "attention_rollout", "eigen_cam"), "none backwards"),
}
# What defines a column whose function has another name.
DEFINED: dict[str, Callable | str] = {
    "complexity": complexity.l1,
    "complexity_native": "the same on the method's own grid",
    "adcc": adcc.adcc,
    "arcc": adcc.arcc,
    "arcc_road": road.gain,
    "road": "`symmetric_relevance_gain`, pixels imputed from neighbours (Rong et al. 2022)",
    "faithfulness_correlation": "`sensitivity_n` of one size of the sets (Bhatt et al. 2020)",
    "faithfulness_estimate": correlation.correlation,
    "max_sensitivity": "the largest relative change of the map under noise too small to see",
    "average_sensitivity": "the mean of the same",
    "randomised_entropy_rise": randomisation.efficient_parameter_randomisation,
    "randomised_similarity": "Spearman's rho of the maps before and after parameters are shuffled",
    "smoothed_randomised_similarity": "the same of maps averaged over noisy copies of the image",
    "other_class_similarity": randomisation.random_logit,
    "energy_inside": localisation.energy_pointing_game,
    "mask_area": localisation.area,
    "mask_auc": localisation.auc,
    "mask_top_k": localisation.top_k_intersection,
    "local_lipschitz": "how far the map moves at most, over how far a noisy image did",
    "relative_input_stability": "the same, both relative to where they were",
    "relative_representation_stability": "the same over the move of the features",
    "relative_output_stability": "the same over the move of the logits",
    **{
        f"cascade_{way}{kind}": "the mean similarity while stage after stage is randomised"
        for way in ("top_down", "bottom_up")
        for kind in ("", "_ssim")
    },
}
HOMES = (
    *(axioms, coherency, compactness, complexity, correlation, faithfulness),
    *(localisation, perturbation, regions, robustness),
)


NAMES = r"[A-Z][\w'-]+(?:(?:,| and) [A-Z][\w'-]+)*"  # of authors


def methods() -> str:
    """By what a map lies on, a row per method: its formula and source, its cost, its options."""
    parts = []
    for title, names in groups().items():
        rows = []
        for name in names:
            method = METHODS[name]
            what, source = described(method.draw)
            settings = [f"needs `{field}`" for field in method.needs]
            settings += [f"`{key}={value}`" for key, value in method.defaults.items()]
            what = what.removeprefix(f"{method.title}: ")
            what = f"{what} ({source})" if source else what
            rows.append(
                (f"{method.title} `{name}`".strip(), what, passes(name), ", ".join(settings))
            )
        heads = ("method", "what it is", "passes", "needs, options")
        parts.append(f"### {title}\n\n{table(heads, rows)}")
    return "\n\n".join(parts)


def groups() -> dict[str, list[str]]:
    """Title -> names of METHODS, each once; pictures.py draws them so."""
    attentive = [name for name, method in METHODS.items() if "attention" in method.needs]
    rest = [name for name in METHODS if name not in (*attentive, *CONTROLS)]
    return {
        "On a feature map": [name for name in rest if not METHODS[name].on_image],
        "On the input": [name for name in rest if METHODS[name].on_image],
        "Of transformers": attentive,
        "Controls": list(CONTROLS),
    }


def passes(name: str) -> str:
    """Of one map, through the network."""
    defaults = METHODS[name].defaults
    counts = (str(defaults[key]) for key in ("samples", "steps") if key in defaults)
    return PASSES.get(name) or next(counts, "one")


def metrics() -> str:
    """A row per metric: what it is, which way is better, what asks for it, how it was checked."""
    found, rows = checks(), []
    for group, measure in MEASURES.items():
        for name, column in measure.columns.items():
            sign = {1: "↑", -1: "↓", 0: ""}[column.better]
            asked = f"`{group}`" if measure.cost else "always"
            title = f"{column.title} {sign} `{name}`"
            rows.append((title, definition(name), asked, *found.get(column.title, ("", ""))))
    heads = ("metric", "definition", "asked for by", "CAM over noise", "truth over Gaussian")
    return table(heads, rows)


def definition(name: str) -> str:
    known = DEFINED.get(name)
    if isinstance(known, str):
        return known
    homes = (getattr(home, name, None) for home in HOMES)
    return described(known or next(function for function in homes if function))[0]


def described(function: Callable) -> tuple[str, str]:
    """The first line of a docstring, and the first source that the others name."""
    first, _, rest = (inspect.getdoc(function) or "").partition("\n")
    text = " ".join(rest.split())
    source = re.search(NAMES + r"(?: et al\.)? (?:19|20)\d\d", text)
    if source is None and (other := re.search(r"see `(\w+)`", first)):
        return first.rstrip("."), described(getattr(explain, other[1]))[1]
    return first.rstrip("."), source[0] if source else ""


def checks() -> dict[str, tuple[str, str]]:
    """Title of a metric -> the share of images on which it prefers the one to the other."""
    text = CHECKED.read_text(encoding="utf-8").partition("tell an explanation from a control")[2]
    lines = [line.strip("| \n").split(" | ") for line in text.splitlines() if line.startswith("|")]
    heads = lines[0]
    wanted = [heads.index(head) for head in ("cam over random", "mask over centred_gaussian")]
    # The first cell of the heads is empty, so that they are one behind.
    return {
        re.sub(r" (\(32x32 grid\) )?[↑↓]$", "", line[0]): (line[wanted[0] + 1], line[wanted[1] + 1])
        for line in lines[2:]
    }


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = (heads, ["---"] * len(heads), *(map(escaped, row) for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(cell: str) -> str:
    """As Markdown shows it as it is; code stays code."""
    parts = cell.split("`")
    parts[::2] = [re.sub(r"([*_])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts).replace("|", r"\|")


def renewed() -> Iterator[tuple[Path, str]]:
    """The pages as they should be."""
    for make in (methods, metrics):
        path = DOCS / f"{make.__name__}.md"
        pattern = re.compile(r"(?<=<!-- table -->).*?(?=<!-- end -->)", re.DOTALL)
        yield (
            path,
            pattern.sub(lambda _, make=make: f"\n{make()}\n", path.read_text(encoding="utf-8")),
        )


if __name__ == "__main__":
    for path, text in renewed():
        path.write_text(text, encoding="utf-8")
