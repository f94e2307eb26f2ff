"""What is asked of every study first: does one model explain as well as another?"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from kdxai.study import config
from kdxai.study.claims import NOT_TESTABLE
from kdxai.study.design import Design
from kdxai.study.stats import STATISTICS

BY_MASKS = ("energy_inside", "pointing_game", "iou")  # metrics that know where the object is
USUAL = ("average_drop", "complexity", "ssim")  # what is asked where that is not known
MATTERS = 0.02  # the smallest difference that does: half of what the paper found in average drop
YES, NO, UNDECIDED = "Yes", "No", "Undecided"


def metrics(measured: Collection[str]) -> list[str]:
    """What the question is asked of: the truth's metrics where they are measured."""
    known = [name for name in BY_MASKS if name in measured]
    return known or [name for name in USUAL if name in measured]


def claims(
    design: Design, measured: Collection[str], sizes: Mapping[str, int], across: str
) -> dict[str, Mapping[str, Any]]:
    """The claims that answer it: by no metric is the first pair's first model worse.

    Args:
      measured: columns of the records.
      sizes: how many networks each model has that is there.
      across: as of `claims.judge`.

    Returns:
      As for `claims.judge`; empty where no two models are compared, or where a verdict is to be
      across networks and one of the two is a single one.
    """
    pairs = [pair for pair in design.compare if set(pair) <= set(sizes)]
    if not pairs or (across == "seeds" and min(sizes[name] for name in pairs[0]) < 2):
        return {}
    one, other = map(design.called, pairs[0])
    found: dict[str, Mapping[str, Any]] = {}
    for metric in metrics(measured):
        column = STATISTICS[metric]
        says = f"{column.title}: {one} is no worse than {other}"
        direction = "not_lower" if column.better > 0 else "not_higher"
        found[f"as_well_{metric}"] = config.claim(says, metric, pairs[0], direction, MATTERS)
    return found


def answer(verdicts: Iterable[str]) -> str:
    """Yes, no, or undecided, from the verdicts of `claims.judge` on `claims`.

    A metric that fails its sanity checks, or cannot be tested for another reason, has no say. Of
    the others the answer is

    - *Yes* where each of them is supported: surely not worse by as much as matters. That all hold
      needs no correction for their number;
    - *No* where one is contradicted: surely worse by more than matters, p by Holm's method;
    - *Undecided* otherwise, and where none can be tested.
    """
    testable = [verdict for verdict in verdicts if verdict != NOT_TESTABLE]
    if "contradicted" in testable:
        return NO
    return YES if testable and set(testable) == {"supported"} else UNDECIDED
