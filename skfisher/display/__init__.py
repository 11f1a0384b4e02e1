"""Pictures of curves, audits and comparisons: a display keeps the numbers and draws later."""

from skfisher.display.comparisons import ComparisonDisplay
from skfisher.display.curves import InformationCurveDisplay
from skfisher.display.findings import DiagnosisDisplay
from skfisher.display.penalties import PenaltyDisplay
from skfisher.display.sandwiches import SandwichDisplay
from skfisher.display.spectra import SpectrumDisplay

__all__ = [
    "ComparisonDisplay",
    "DiagnosisDisplay",
    "InformationCurveDisplay",
    "PenaltyDisplay",
    "SandwichDisplay",
    "SpectrumDisplay",
]
