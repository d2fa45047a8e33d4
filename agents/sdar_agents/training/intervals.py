"""Wilson score interval of a success rate. Needs neither NumPy nor torch."""

from __future__ import annotations

import math

from sdar_envs.errors import InvalidOption

__all__ = ["score_interval", "wilson_interval"]

_Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion p = successes / trials.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96. Unlike the normal approximation it
    stays within 0 and 1 and holds for few trials and for rates near the ends.

    Raises:
        InvalidOption: not 0 <= successes <= trials, or no trials.

    Source: Wilson (1927), JASA 22:209-212; Newcombe (1998), Statistics in Medicine 17:857-872, method 3.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise InvalidOption(f"{successes} successes in {trials} trials; wanted 0 <= successes <= trials, trials > 0.")
    return score_interval(successes / trials, trials)


def score_interval(rate: float, trials: float) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a rate; `trials` may be fractional (an effective sample size)."""
    z2n = _Z_95**2 / trials
    center = rate + z2n / 2
    half = math.sqrt(z2n * (rate * (1 - rate) + z2n / 4))
    # At the ends the formula gives exactly 0 and 1, but rounding does not.
    low = 0.0 if rate == 0 else (center - half) / (1 + z2n)
    high = 1.0 if rate == 1 else (center + half) / (1 + z2n)
    return low, high
