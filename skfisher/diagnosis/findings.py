"""What an audit may find wrong with a latent space: names, advice, records."""

from __future__ import annotations

from dataclasses import dataclass

from skfisher._backend.arrays import Array

__all__ = ["ADVICE", "FINDINGS", "REFERENCE_NOISE", "SERIOUS", "Diagnosis", "Finding"]

SERIOUS = 0.05
"""Weight from which a finding is one: the tolerance on the gap of the rate."""

REFERENCE_NOISE = 0.3
"""Noise level at which findings are compared, in RMS scales of the data."""

FINDINGS = (
    "folded space",
    "dead channels",
    "dimensional compression",
    "encoder curvature",
    "unnormalised channels",
    "tangential distortion",
    "data curvature",
)
"""Names of findings; of two that weigh the same, the earlier is named first."""

ADVICE = {
    "folded space": (
        "Different data have one latent, which no decoder can undo: train with a reconstruction "
        "loss that sees the folded samples, or with an injective architecture."
    ),
    "dead channels": (
        "Drop the channels that carry nothing, or stop their collapse (lower the weight of the KL "
        "term, warm it up, or give it a floor per channel)."
    ),
    "dimensional compression": (
        "Give the latent more dimensions, or spend those it has on the directions that were lost."
    ),
    "encoder curvature": (
        "Make the encoder smoother: penalise its second derivatives or a change of its Jacobian "
        "between neighbours, lower its frequencies, or smooth its activations."
    ),
    "unnormalised channels": (
        "Bring every channel to one variance before diffusion (standardize=True measures the "
        "latent so)."
    ),
    "tangential distortion": (
        "Add an isometry penalty to the encoder's training, or whiten the latent: rescaling the "
        "channels alone does not mend it."
    ),
    "data curvature": (
        "The data bends by itself; an encoder that unrolls it (geodesic distances kept) takes this "
        "away."
    ),
}


@dataclass(frozen=True, eq=False)
class Finding:
    """One thing that is wrong, or may be, with a latent space.

    Attributes
    ----------
    name : str
        One of `FINDINGS`.
    value, stderr : float
        The diagnostic in its own unit, see `quantity`, and its standard error (0 where exact).
    quantity : str
        What `value` is.
    weight : float
        What it may change of the dimension-free MMSE rate per dimension, in [0, 1].
    serious : bool
        Whether the weight is at least `SERIOUS` and the value beyond two standard errors.
    noise_range : tuple of float or None
        Noise levels of the data, in units of X, between which it acts most; None where the account
        does not tell.
    samples : tuple of int
        Rows of X in which it shows most.
    channels : tuple of int
        Latent channels in which it shows most.
    directions : array of shape (q, d) or None
        Unit vectors of the latent in which it shows most: the most and the least stretched for
        tangential distortion, the one in which the derivative varies most for encoder curvature.
        Directions of the data that are lost are `Penalties.lost_directions`.
    evidence, advice : str
    """

    name: str
    value: float
    stderr: float
    quantity: str
    weight: float
    serious: bool
    noise_range: tuple[float, float] | None
    samples: tuple[int, ...]
    channels: tuple[int, ...]
    directions: Array | None
    evidence: str
    advice: str

    def __repr__(self) -> str:
        return f"Finding({self.name!r}, weight={self.weight:.3g}: {self.evidence})"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Findings by decreasing weight.

    Attributes
    ----------
    findings : tuple of Finding
        All that could be weighed: the serious ones first, the data's own curvature last of them.
    unknown : tuple of str
        Names of what could not be measured, each with the reason.
    reference_noise : float
        Noise level of the data at which findings were weighed, in units of X.
    """

    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]
    reference_noise: float

    @property
    def serious(self) -> tuple[Finding, ...]:
        """The findings that are serious."""
        return tuple(finding for finding in self.findings if finding.serious)

    @property
    def dominant(self) -> Finding | None:
        """The first of the serious findings."""
        return next(iter(self.serious), None)

    @property
    def headline(self) -> str:
        """Name of the dominant finding and its evidence; empty where nothing is serious."""
        found = self.dominant
        return "" if found is None else f"{found.name}: {found.evidence}"

    def __getitem__(self, name: str) -> Finding:
        """The finding of a name."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        known = ", ".join(finding.name for finding in self.findings)
        raise KeyError(f"no finding {name!r} among {known}")

    def __repr__(self) -> str:
        if not self.serious:
            return "Diagnosis(nothing serious)"
        return f"Diagnosis({'; '.join(f'{f.name} {f.weight:.2f}' for f in self.serious)})"
