"""Single weights set to zero (Han et al. 2015)."""

import numpy as np

from kdxai.compress.children import child
from kdxai.compress.kernels import Path, kernels, with_kernels
from kdxai.compress.values import require_one_of, require_share, require_whole
from kdxai.errors import UserError
from kdxai.models.trained import Trained

CRITERIA = ("magnitude", "random")
SCOPES = ("global", "layer")


def require_prunable(sparsity: float, by: str, scope: str, seed: int) -> None:
    """Check the settings of a pruning.

    Raises:
      UserError: bad settings.
    """
    require_share("sparsity", sparsity)
    require_one_of("by", by, CRITERIA)
    require_one_of("scope", scope, SCOPES)
    require_whole("seed", seed, 0)


def prune(
    trained: Trained,
    *,
    sparsity: float,
    by: str = "magnitude",
    scope: str = "global",
    seed: int = 0,
) -> Trained:
    """The network with a share of the weights of its convolutions at exactly zero.

    Weights that are zero already are the first of that share, so that a network can be pruned again
    and again to a growing sparsity.

    Args:
      sparsity: the share of zeros, in [0, 1); rounded to whole weights.
      by: `magnitude` takes the smallest, `random` any: its control. A seed's random zeros at one
        sparsity are among those at a larger one.
      scope: `global` ranks the weights of all convolutions together, `layer` within each.
      seed: of `random`.

    Raises:
      UserError: bad settings, or a convolution would have no weight left.
    """
    require_prunable(sparsity, by, scope, seed)
    found = kernels(trained.variables)
    scores = {path: np.abs(kernel) for path, kernel in found.items()}
    if by == "random":
        rng = np.random.default_rng(seed)
        scores = {path: np.where(s > 0, 1 - rng.random(s.shape), 0) for path, s in scores.items()}
    groups = [[path] for path in scores] if scope == "layer" else [list(scores)]
    pruned: dict[Path, np.ndarray] = {}
    for group in groups:
        keep = _keep(np.concatenate([scores[path].ravel() for path in group]), sparsity)
        ends = np.cumsum([found[path].size for path in group])[:-1]
        for path, mask in zip(group, np.split(keep, ends), strict=True):
            pruned[path] = np.where(mask.reshape(found[path].shape), found[path], 0)
    for path, kernel in pruned.items():
        if not kernel.any():
            raise UserError(
                f"at a sparsity of {sparsity} nothing is left of {'/'.join(path[:-1])}; choose a "
                "smaller one, or scope='layer'"
            )
    settings = {"sparsity": sparsity, "by": by, "scope": scope}
    settings |= {"seed": seed} if by == "random" else {}
    return child(trained, with_kernels(trained.variables, pruned), "prune", settings)


def _keep(scores: np.ndarray, sparsity: float) -> np.ndarray:
    """Which of [n] stay, if the `sparsity` * n smallest go; of equal ones the first go."""
    keep = np.ones(len(scores), bool)
    keep[np.argsort(scores, kind="stable")[: round(sparsity * len(scores))]] = False
    return keep
