"""Means over images and networks -> 95 % intervals and p values, of skewed metrics and shares too.

An interval over images speaks of the networks that were measured; one across networks of more like
them, such as further runs of their recipe.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import elementwise

from kdxai.study.lines import shared

LEVEL = 0.05  # of all tests; intervals hold the truth with 1 - LEVEL
NO_SPREAD = 1e-7  # standard errors below it are the rounding of float32
# Shares of images: each image is a yes or a no.
SHARES = ("accuracy", "same_class", "increase", "logit_increase", "pointing_game")
# Columns of `estimate` that the tests need.
FOR_TESTS = ["centre", "error", "share", "share_other", "skewness", "freedom", "across"]
FEW_IMAGES, FEW_NETWORKS = 200, 10  # with fewer, `caution`


# Of every population that varies, its share of the squared error and how many networks it has.
Parts = Sequence[tuple[np.ndarray, np.ndarray | int]]


class Sample(NamedTuple):
    """Statistics of one population, or differences of two, on the same images.

    Attributes:
      metrics: [K] names in `stats.STATISTICS`.
      values: [1 + resamples, S, K] of every network: of the images themselves, then of resamples.
      images: n.
      difference: whether it is one.
      lines: [S], see `lines`.
      against: of a difference of independent populations, the values of the subtrahend; of paired
        ones None, `values` being their differences by line.
    """

    metrics: list[str]
    values: np.ndarray
    images: int
    difference: bool = False
    lines: Sequence[str] = ()
    against: np.ndarray | None = None

    def minus(self, other: "Sample") -> "Sample":
        """Differences in the metrics that both have: by the lines that both have, if any."""
        names = [name for name in self.metrics if name in other.metrics]
        pairs = shared(self.lines, other.lines)
        mine, theirs = self.values, other.values
        if pairs:
            own, its = map(list, zip(*pairs, strict=True))
            mine, theirs = np.take(mine, own, axis=1), np.take(theirs, its, axis=1)
        mine = mine[..., [self.metrics.index(name) for name in names]]
        theirs = theirs[..., [other.metrics.index(name) for name in names]]
        if pairs:
            return Sample(names, mine - theirs, self.images, difference=True)
        return Sample(names, mine, self.images, difference=True, against=theirs)

    @property
    def design(self) -> str:
        """How the two populations of a difference belong together; "" of a single one."""
        if not self.difference:
            return ""
        return "paired" if self.against is None else "independent"

    @property
    def networks(self) -> tuple[int, int]:
        """Of the population, and of the other one; of paired ones their lines, twice."""
        own = self.values.shape[1]
        if self.against is not None:
            return own, self.against.shape[1]
        return own, own * self.difference


def tails(t: np.ndarray, parts: Parts, freedom: np.ndarray | float) -> np.ndarray:
    """P(|T| > t) for a mean over its standard error, shares of whose square are between networks.

    A mean of the tails of Student's t, with S - 1 degrees of freedom for every population of S
    networks and n - 1 for the images, weighted by the shares of the variance that they hold.
    Cochran & Cox (Experimental Designs, 1950) weight the quantiles so; tails cover better. For
    normal networks and many images, whatever the true shares, 95 % intervals cover 94.8 to 96.5 %
    with 3 of them, 95 to 96.1 % with 5, 95 to 95.7 % with 10, and a test at 0.5 % errs in at most
    0.51 %. (Satterthwaite's degrees of freedom: down to 92 % with 3, and up to 2.7 % for 0.5 %.)
    Two networks hardly know the share: weighted by it, their intervals cover down to 92.2 % and a
    test at 0.5 % errs in up to 1.9 %; weighted by its root, 95 to 98.5 % and at most 0.5 %.

    Of two populations, that mean is too wide where they are alike: the difference of 3 and 3 has 4
    degrees of freedom rather than 2. Welch's are too many where one is small: they cover down to
    87.7 % with 2 against 19 networks, and a test at 0.5 % errs in up to 6.6 %. So both tails are
    averaged, Welch's with the weight that the sizes are alike, at most 3/4. For true variances from
    1:25 to 25:1, beside none to ten times as much of images, networks normal or of Student's t with
    3 degrees of freedom, that covers 96.3 to 98.9 % with 2 against 2, 94.9 to 98.8 % with 2 against
    19, 94.7 to 97.9 % with 3 against 3, 94.5 to 97.2 % with 4 against 17, 95 to 97.2 % with 5
    against 5, 94.8 to 96.2 % with 11 against 19; a test at 0.5 % errs in at most 0.69 %.

    Args:
      freedom: degrees of freedom of the images, n - 1 or infinity.
    """
    # What populations of two hold counts by its root; all else shrinks to make room.
    of_two = sum((np.where(np.equal(size, 2), share, 0.0) for share, size in parts), 0.0 * t)
    root, rest = np.sqrt(of_two), np.where(of_two < 1, 1 - of_two, 1)
    found, left = np.zeros_like(t), np.ones_like(t)
    for share, size in parts:
        small = root * (share / np.where(of_two > 0, of_two, 1))
        large = np.where(of_two > 0, (1 - root) * (share / rest), share)
        weight = np.where(np.equal(size, 2), small, large)
        found = found + weight * 2 * stats.t.sf(t, np.maximum(np.subtract(size, 1), 1))
        left = left - weight
    found = found + left * 2 * stats.t.sf(t, freedom)
    if len(parts) < 2:
        return found
    sizes = [np.subtract(size, 1) for _, size in parts]
    alike = np.maximum(np.minimum(*sizes), 0) / np.maximum(np.maximum(*sizes), 1)
    alike = np.minimum(alike, 0.75)
    return (1 - alike) * found + alike * welch(t, parts, freedom)


def welch(t: np.ndarray, parts: Parts, freedom: np.ndarray | float) -> np.ndarray:
    """The same with one weight for both populations, and Welch's degrees of freedom for it."""
    together = sum((share for share, _ in parts), 0.0 * t)
    each = sum((share**2 / np.maximum(np.subtract(size, 1), 1) for share, size in parts), 0.0 * t)
    own = np.where(each > 0, together**2 / np.where(each > 0, each, 1), 1)
    weight = together ** np.minimum(1, own / 2)  # the root where it is that of two networks
    return weight * 2 * stats.t.sf(t, own) + (1 - weight) * 2 * stats.t.sf(t, freedom)


def quantiles(parts: Parts, freedom: np.ndarray) -> np.ndarray:
    """The t [K] that `tails` leaves 5 % beyond."""
    sizes = [size for _, size in parts]
    every = np.stack(
        [
            stats.t.isf(LEVEL / 2, np.broadcast_to(df, freedom.shape))
            for df in (freedom, *(np.maximum(np.subtract(size, 1), 1) for size in sizes))
        ]
    )
    found = elementwise.find_root(
        lambda t, free, *shares: tails(t, list(zip(shares, sizes, strict=True)), free) - LEVEL,
        (0.9 * every.min(0), 1.1 * every.max(0)),
        args=(freedom, *(share for share, _ in parts)),
    )
    return found.x


def straightened(t: np.ndarray, skewness: np.ndarray) -> np.ndarray:
    """T of a skewed mean -> what is nearly Student's t (Hall 1992, J. R. Stat. Soc. B 54).

    Args:
      skewness: of the mean, which is that of the values over the root of n.
    """
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6


def bent(y: np.ndarray, skewness: np.ndarray) -> np.ndarray:
    """The inverse of `straightened`."""
    rest = y - skewness / 6
    root = np.cbrt(1 + skewness * rest)
    return 3 * rest / (root**2 + root + 1)


def squared_errors(sample: Sample, across: str) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """How sure the means over networks are, or their differences.

    Across networks the squared error is that of the hierarchical bootstrap (networks, then images),
    written out: images are resampled, for both populations alike, and what S networks add is the
    variance of their statistics / S, of each population by itself. Resampled networks would give
    (S - 1) / S of that. What single networks do on single images is in both parts, and is taken
    out of one.

    Returns:
      [K] squared standard errors; how much of each is between the networks of each population (0
      to 1); and the skewness of the means: 0 of shares of images, and of the calibration error,
      which is no mean.
    """
    n = sample.images
    populations = [sample.values, *([] if sample.against is None else [sample.against])]
    means = [values[1:].mean(1) for values in populations]
    together = means[0] if len(means) == 1 else means[0] - means[1]
    squared = together.var(0) * n / max(n - 1, 1)
    between, both = [np.zeros_like(squared) for _ in populations], np.zeros_like(squared)
    if across == "seeds":
        for place, (values, drawn) in enumerate(zip(populations, means, strict=True)):
            if (size := values.shape[1]) > 1:
                between[place] = values[0].var(0, ddof=1) / size
                rest = (values[1:] - drawn[:, None]).var(0).sum(0)
                both = both + rest / (size * (size - 1))
        squared = sum(between) + np.maximum(squared - both, 0)
    shares = [np.zeros_like(squared) for _ in populations]
    for share, part in zip(shares, between, strict=True):
        np.divide(part, squared, where=squared > 0, out=share)
    skewness = np.zeros_like(squared)
    skewed = (squared > NO_SPREAD**2) & ~np.isin(sample.metrics, [*SHARES, "ece"])
    third = ((together - together.mean(0)) ** 3).mean(0)
    np.divide(third, squared**1.5, where=skewed, out=skewness)
    return squared, shares, skewness


def estimate(sample: Sample, across: str = "seeds") -> pd.DataFrame:
    """Means over networks, or their differences, with 95 % intervals.

    They hold all that `p_values` does not reject at 5 %. `images`: of these networks, over images.
    `seeds`: of networks like these, and of further images (`squared_errors`); a single one has no
    spread, so it speaks of itself.

    - Means: Student's t (`tails`), each end moved outwards where Hall's transformation for skewed
      values asks for it. With 20 and more images such intervals cover 92 to 98 % (lognormal values
      and differences; Beta(0.1, 2), which is as skewed as drops are); Student's alone and the
      percentile bootstrap cover down to 81 %. Below 20 nothing does: down to 73 % with 5.
    - Shares of images (`SHARES`): Wilson's interval, of as many images as would give the squared
      error; 30 right of 30 give [0.886, 1]. Their differences: `bonett_price`.
    - NaN where there is nothing to tell an interval from: one image, or the same value on all.

    Across networks, on 200 and 1,000 images (normal, Beta(0.1, 2) and lognormal values, of which
    half the variance is shared by all networks), networks normal or of Student's t with 3 degrees
    of freedom that add from hardly anything to most of the error, intervals of differences cover on
    average 97.6 % with 2 paired networks, 96.5 % with 3, 95.5 to 96.4 % with 4 to 20; of
    independent ones 98.9 % with 2 against 2, 98.1 % with 2 against 19, 97.3 % with 3 against 3,
    96.5 % with 3 against 11, 96.7 % with 4 against 4, 96.6 % with 4 against 17, 95.6 % with 11
    against 19 and 95.8 % with 20 against 20. No setting fell below 92.7 % of 300 to 600 trials.
    Of families of ten such tests 0 to 3.8 % hold a false verdict. Where no method covers:
    `caution`.

    Returns:
      Rows metrics. Columns `mean, ci_low, ci_high, n, seeds` (as `networks`), `networks,
      networks_other, design, caution`, see `Sample` and `cautions`, and `FOR_TESTS`: the interval's
      centre, the standard error, how much of its square is between the networks of each population
      (0 to 1), the skewness of the mean, the degrees of freedom that images give, and across what.
    """
    n, sizes = sample.images, sample.networks
    mean = sample.values[0].mean(0)
    if sample.against is not None:
        mean = mean - sample.against[0].mean(0)
    across = across if max(sizes) > 1 else "images"
    counted = np.isin(sample.metrics, SHARES)
    squared, shares, skewness = squared_errors(sample, across)
    counts = squared * max(n - 1, 1) / n  # the variance of yes and no needs no such correction
    centre = mean
    if sample.difference:
        centre, squared = np.where(counted, bonett_price(mean, counts, n), (mean, squared))
    error, freedom = np.sqrt(squared), np.where(counted, np.inf, max(n - 1, 1))
    quantile = quantiles(list(zip(shares, sizes, strict=False)), freedom)
    known = counted | (error > NO_SPREAD) & (n > 1)
    low, high = (
        np.where(known, centre - error * side(end, bent(end, skewness)), np.nan)
        for side, end in ((np.maximum, quantile), (np.minimum, -quantile))
    )
    if not sample.difference:
        size = np.full_like(mean, n)
        if sizes[0] > 1:
            np.divide(mean * (1 - mean), counts, where=counts > NO_SPREAD**2, out=size)
        low, high = np.where(counted, wilson(mean, size, quantile), (low, high))
        low = np.where(np.isin(sample.metrics, "ece"), np.maximum(low, 0), low)  # it is no less
    numbers = {"mean": mean, "ci_low": low, "ci_high": high, "n": n, "seeds": sizes[0]}
    numbers |= {"networks": sizes[0], "networks_other": sizes[1], "design": sample.design}
    numbers["caution"] = [caution(name, n, sizes, across) for name in sample.metrics]
    shares = [*shares, np.zeros_like(mean)][:2]
    tests = dict(zip(FOR_TESTS, (centre, error, *shares, skewness, freedom, across), strict=True))
    return pd.DataFrame(numbers | tests, index=pd.Index(sample.metrics, name="metric"))


def caution(metric: str, images: int, networks: Sequence[int], across: str) -> str:
    """Where an interval may not cover what it says, in plain words; else "".

    - Few images, fewer than 200, of what is no share: 20 images of a metric as skewed as lognormal
      values cover 92 %, 100 of them 95 %; of lognormal(0, 1.5) values 88, 92 and, with 200, 94 %.
    - Few networks, fewer than 10: what befalls one network in many is most likely not among them,
      and no method can know of it. Where one in ten collapses, an interval covers 55 % with 3
      networks, 42 % with 5, 65 % with 10, 88 % with 20.
    - One network, of which nothing follows for others.
    """
    found = ["few images"] if images < FEW_IMAGES and metric not in SHARES else []
    sizes = [size for size in networks if size]
    if min(sizes) == 1:
        found.append("one network: others may differ")
    if across == "seeds" and any(1 < size < FEW_NETWORKS for size in sizes):
        found.append("few networks: an outlier would not be seen")
    return "; ".join(found)


def wilson(share: np.ndarray, n: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the interval of a share of n (Wilson 1927)."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    inside = np.maximum(share * (1 - share), 0) / n + z**2 / (4 * n**2)
    half = z * np.sqrt(inside) / (1 + z**2 / n)
    return middle - half, middle + half


def bonett_price(
    difference: np.ndarray, squared: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centre and squared error of a paired difference of shares (Bonett & Price 2012).

    They add two images, one that speaks for each side.

    Args:
      squared: its squared error without the two images that are added.
    """
    size = n + 2
    centre = n * difference / size
    apart = (n * (n * squared + difference**2) + 2) / size  # the share on which the two differ
    return centre, (apart - centre**2) / size


def p_values(found: pd.DataFrame, null: pd.Series | float = 0.0) -> pd.Series:
    """Two-sided p of the truth being `null`, from rows of `estimate`; 1 where nothing varies."""
    t = (found.centre - null) / found.error.where(found.error > NO_SPREAD)
    others = found.networks_other.where(found.design == "independent", 0)  # paired vary as one
    parts = [(found.share, found.networks), (found.share_other, others)]
    plain, straight = (
        tails(np.abs(one), parts, found.freedom) for one in (t, straightened(t, found.skewness))
    )
    return pd.Series(np.maximum(plain, straight), found.index).fillna(1.0)


def deviation(values: np.ndarray) -> tuple[float, float, float]:
    """The standard deviation of networks' values [S], S >= 2, and its 95 % interval.

    Bonett's (2006), which knows of the kurtosis; with fewer than 4 networks, which do not tell it,
    the chi-square interval of normal values. They cover 94.5 to 99.4 % of normal values with 2 to
    19 networks, 88 to 98 % of exponential ones with 3 to 19, but of Student's t with 3 degrees of
    freedom 98, 90 and 80 % with 4, 8 and 19 (chi-square: 88, 79 and 67 %): an outlier that is not
    among the networks is in no interval. NaN where they do not differ.
    """
    n, found = len(values), float(values.std(ddof=1))
    if found <= NO_SPREAD:
        return found, np.nan, np.nan
    if n < 4:
        low, high = np.sqrt((n - 1) / stats.chi2.isf([LEVEL / 2, 1 - LEVEL / 2], n - 1))
        return found, found * float(low), found * float(high)
    z = stats.norm.isf(LEVEL / 2)
    trimmed = stats.trim_mean(values, 1 / (2 * np.sqrt(n - 4)) if n > 5 else 0.25)
    fourth, second = ((values - trimmed) ** 4).sum(), ((values - values.mean()) ** 2).sum()
    kurtosis = n * fourth / second**2
    scale = n / (n - z)
    half = z * scale * np.sqrt(max(kurtosis - (n - 3) / n, 0) / (n - 1))
    low, high = found * np.sqrt(scale) * np.exp(np.array([-half, half]) / 2)
    return found, float(low), float(high)
