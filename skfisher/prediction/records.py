"""What a study of predictiveness returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skfisher._backend.correlations import METHODS

__all__ = ["Correlation", "Prediction", "Predictiveness", "PredictorComparison"]


@dataclass(frozen=True, eq=False)
class Correlation:
    """A correlation over encoders.

    Attributes
    ----------
    value : float
        NaN where it is not defined.
    low, high : float
        Ends of its interval: symmetric in Fisher's z, of t quantiles with G - 2 degrees of freedom
        for G encoders (or families). The width is the larger of the bootstrap's and the
        jackknife's standard error for Pearson's, the jackknife's for rank correlations.
    percentile : tuple of float
        The bootstrap percentile interval, as papers quote it; with few encoders it is too narrow
        for Pearson's (it covers 88 to 93 % at 8 encoders instead of 95).
    stderr : float
    n : int
        Encoders that entered.
    reason : str
        Why a number is missing; empty where none is.
    """

    value: float
    low: float
    high: float
    percentile: tuple[float, float]
    stderr: float
    n: int
    reason: str = ""

    def __repr__(self) -> str:
        if math.isnan(self.value):
            return f"Correlation(nan: {self.reason})"
        ends = f"[{self.low:+.2f}, {self.high:+.2f}]" if math.isfinite(self.low) else "no interval"
        return f"Correlation({self.value:+.3f} {ends}, n={self.n})"


@dataclass(frozen=True, eq=False)
class Prediction:
    """How well one number predicts quality.

    Attributes
    ----------
    name : str
    n : int
        Encoders with a finite value of the number and of the quality (and of the covariates, for
        the partial correlations).
    pearson, spearman, kendall : Correlation
    partial_pearson, partial_spearman : Correlation
        Given the dimension and the logarithm of the reconstruction error (their ranks for
        Spearman's).
    leave_one_family_out : mapping of family to mapping of str to float
        The three correlations without each family.
    influence : mapping of encoder to mapping of str to float
        The three correlations minus those without the encoder.
    """

    name: str
    n: int
    pearson: Correlation
    spearman: Correlation
    kendall: Correlation
    partial_pearson: Correlation
    partial_spearman: Correlation
    leave_one_family_out: Mapping[Any, Mapping[str, float]]
    influence: Mapping[Any, Mapping[str, float]]

    @property
    def most_influential(self) -> Any:
        """The encoder without which Pearson's correlation changes most; None where undefined."""
        sizes = {
            name: abs(change["pearson"])
            for name, change in self.influence.items()
            if math.isfinite(change["pearson"])
        }
        return max(sizes, key=sizes.__getitem__) if sizes else None


@dataclass(frozen=True, eq=False)
class Predictiveness:
    """Candidate numbers against one quality, over the same encoders.

    Attributes
    ----------
    predictions : tuple of Prediction
        In the order given.
    n_encoders : int
    n_families : int or None
    covariates : tuple of str
        What the partial correlations are given.
    higher_is_better : bool
        Whether higher quality is better; where not, quality was negated, so that a positive
        correlation always says: more of the number, better generation.
    confidence : float
    n_resamples : int
    random_state : int
    """

    predictions: tuple[Prediction, ...]
    n_encoders: int
    n_families: int | None
    covariates: tuple[str, ...]
    higher_is_better: bool
    confidence: float
    n_resamples: int
    random_state: int

    def __getitem__(self, name: str) -> Prediction:
        """The prediction of a candidate by its name."""
        for found in self.predictions:
            if found.name == name:
                return found
        names = ", ".join(found.name for found in self.predictions)
        raise KeyError(f"no candidate {name!r}: there are {names}.")

    def __repr__(self) -> str:
        over = "" if self.n_families is None else f" in {self.n_families} families"
        lines = [
            f"Predictiveness of {len(self.predictions)}: {self.n_encoders} encoders"
            f"{over}, intervals of {100 * self.confidence:g} %; positive: more of it, better "
            f"generation"
        ]
        width = max([len("candidate"), *(len(p.name) for p in self.predictions)])
        head = ["pearson", "spearman", "kendall"]
        if self.covariates:
            head += ["partial pearson", "partial spearman"]
        lines.append(f"{'candidate':<{width}}    n  " + "".join(f"{h:<22}" for h in head).rstrip())
        for p in self.predictions:
            cells = [p.pearson, p.spearman, p.kendall]
            if self.covariates:
                cells += [p.partial_pearson, p.partial_spearman]
            row = "".join(f"{_cell(c):<22}" for c in cells).rstrip()
            lines.append(f"{p.name:<{width}}  {p.n:>3}  {row}")
        reasons = dict.fromkeys(
            f"{p.name}: {p.pearson.reason}" for p in self.predictions if p.pearson.reason
        )
        if self.covariates:
            lines.append(f"partial: given {' and '.join(self.covariates)}")
        return "\n".join([*lines, *reasons])


@dataclass(frozen=True, eq=False)
class PredictorComparison:
    """Which of two numbers predicts better, on the same encoders.

    Attributes
    ----------
    first, second : str
    pearson, spearman, kendall : Correlation
        Difference of strength, first minus second: each correlation is taken with the sign that it
        has on all encoders, so `value` is |r_1| - |r_2|. Its interval is value +- t se.
    win_probability : mapping of str to float
        Share of the resamples in which the first is the stronger, ties half.
    n : int
    """

    first: str
    second: str
    pearson: Correlation
    spearman: Correlation
    kendall: Correlation
    win_probability: Mapping[str, float]
    n: int

    def __repr__(self) -> str:
        lines = [f"PredictorComparison({self.first} minus {self.second}, n={self.n})"]
        for method in METHODS:
            wins = self.win_probability[method]
            lines.append(f"  {method:<9} {_cell(getattr(self, method)):<22} wins {wins:.2f}")
        return "\n".join(lines)


def _cell(c: Correlation) -> str:
    if math.isnan(c.value):
        return "nan"
    return f"{c.value:+.2f}" + (
        f" [{c.low:+.2f}, {c.high:+.2f}]" if math.isfinite(c.low) else " [no interval]"
    )
