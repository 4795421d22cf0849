"""How strongly counts speak against "the new version is no worse": valid at every look, however many there are.

Each function returns the logarithm of an e-process: a value whose expectation, at any time that one may choose to
stop, is at most 1 where the new version is no worse. By Ville's inequality the chance that it ever reaches 1/a is
then at most a, over all looks together (Ramdas, Grünwald, Vovk, Shafer: Game-theoretic statistics and safe
anytime-valid inference, Statistical Science 2023). It is a likelihood ratio for each arm, mixed over alternatives
(Robbins: Statistical methods related to the law of the iterated logarithm, 1970; Kaufmann, Koolen: Mixture
martingales revisited, JMLR 2021), and their product is taken where the null hypothesis fits the counts best
(universal inference: Wasserman, Ramdas, Balakrishnan, PNAS 2020).

Only totals are needed: counts of several replicas add up, and nothing has to be remembered from look to look.
"""

import math

import numpy as np
from numpy.typing import NDArray

from serve_app.rollout.counts import GROWTH, Histogram

PRIOR = 0.5
"""Jeffreys' prior, Beta(1/2, 1/2): little is lost to it whatever the share is."""
ODDS = np.geomspace(1.25, 400, 12)
"""Alternatives to a known share, as ratios of odds: from hardly another to almost all."""

NONE = -math.inf
"""Where the canary's own figure is within what is tolerated: evidence below 1 need not be told from none."""
INTERVALS = 400
TINY = 1e-12

Sample = tuple[float, int]
"""Sum of values in [0, 1], and how many they are."""


def of_shares(canary: Sample, stable: Sample, tolerance: float) -> float:
    """Against: the canary's mean is at most the stable one's plus `tolerance`.

    Values between 0 and 1 are allowed: the likelihood ratio of coins is convex in them, so that its expectation is
    largest for coins.
    """
    least, most = _mean(*stable), _mean(*canary) - tolerance
    if most <= least:
        return NONE
    # Between the two the stable arm's evidence rises and the canary's falls: taken at opposite ends of each small
    # interval they are no more than anywhere in it.
    shares = np.linspace(least, most, INTERVALS + 1)
    against_canary = _mixed(*canary) - _log_likelihood(shares[1:] + tolerance, *canary)
    against_stable = _mixed(*stable) - _log_likelihood(shares[:-1], *stable)
    return float((against_canary + np.logaddexp(0, against_stable) - math.log(2)).min())


def of_quantiles(canary: Histogram, stable: Histogram, share: float, ratio: float) -> float:
    """Against: the canary's quantile (at `share`) is at most `ratio` times the stable one's, whatever both are
    distributed like.

    Were bucket m the stable quantile's, no more than 1 - share of the stable values would lie above it, no less than
    that above the bucket before, and no more than 1 - share of the canary's above `ratio` times it. The least
    evidence against all three over every m is the evidence against the hypothesis.
    """
    shift = math.ceil(round(math.log(ratio) / math.log(GROWTH), 6))
    if canary.beyond(stable.position(share) + shift) <= (1 - share) * canary.total:
        return NONE
    lowest = min(stable.counts, default=0)
    highest = max((*stable.counts, *(position - shift for position in canary.counts), lowest))
    buckets = np.arange(lowest - 1, highest + 1)
    too_low = _beyond(stable.above(buckets), stable.total, 1 - share)
    too_high = _beyond(stable.total - stable.above(buckets - 1), stable.total, share)
    doubt = np.logaddexp(np.logaddexp(too_low, too_high), 0) - math.log(3)
    return float((_beyond(canary.above(buckets + shift), canary.total, 1 - share) + doubt).min())


def _mean(total: float, count: int) -> float:
    return total / count if count else 0.0


def _mixed(total: float, count: int) -> float:
    """Log-likelihood, averaged over all shares by the prior."""
    seen = math.lgamma(PRIOR + total) + math.lgamma(PRIOR + count - total) - math.lgamma(2 * PRIOR + count)
    return seen - 2 * math.lgamma(PRIOR) + math.lgamma(2 * PRIOR)


def _log_likelihood(shares: NDArray[np.float64], total: float, count: int) -> NDArray[np.float64]:
    inside = np.clip(shares, TINY, 1 - TINY)
    likelihood: NDArray[np.float64] = total * np.log(inside) + (count - total) * np.log1p(-inside)
    return likelihood


def _beyond(hits: NDArray[np.int64], count: int, share: float) -> NDArray[np.float64]:
    """Log-evidence, for each number of hits among `count`, that a hit is likelier than `share`."""
    odds = ODDS * share / (1 - share)
    likelier = odds / (1 + odds)
    missed = np.log((1 - likelier) / (1 - share))
    ratios = np.outer(hits, np.log(likelier / share) - missed) + count * missed
    highest = ratios.max(axis=1)
    mixed: NDArray[np.float64] = highest + np.log(np.exp(ratios - highest[:, None]).mean(axis=1))
    return mixed
