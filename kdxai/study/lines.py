"""Which networks of two populations belong together.

A line is a network with what descends from it, or one replicate of a study. Populations that share
lines are paired on them; those that share none are independent.
"""

from collections.abc import Sequence

import pandas as pd

from kdxai.errors import UserError


def with_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the column `line`; where there is none, members of one number belong together."""
    return rows if "line" in rows else rows.assign(line=rows.seed.astype(str))


def require_once(model: str, lines: Sequence[str]) -> None:
    """Check that lines tell members apart.

    Raises:
      UserError: two members of a model are of one line, so nobody knows which is compared.
    """
    if twice := [line for line in dict.fromkeys(lines) if list(lines).count(line) > 1]:
        raise UserError(
            f"'{model}' has two members that descend from one network ({twice[0]}); give them "
            "names of their own"
        )


def matched(
    one: Sequence[int], other: Sequence[int], lines: Sequence[Sequence[str]]
) -> tuple[list[int], list[int] | None]:
    """Members of two populations for `permutation.beyond`: (those of `one`, each one's own).

    Paired, they are those whose line `other` has too; independent, all of them, and None.

    Args:
      one, other: where the members stand.
      lines: of both.
    """
    pairs = shared(*lines)
    if not pairs:
        return list(one), None
    return [one[i] for i, _ in pairs], [other[j] for _, j in pairs]


def shared(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Positions in both of the lines that both have, in the order of `other`; [] if independent."""
    places = {line: place for place, line in enumerate(one)}
    return [(places[line], place) for place, line in enumerate(other) if line in places]
