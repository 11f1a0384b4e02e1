"""Does a number that is measured on latents predict how well a diffusion model will do there.

The sample is the encoders, of which there are few: 8 to 86 in the studies so far. Intervals come
from resampling encoders, or whole families of them where these are given, because encoders that
share an architecture or a loss are not independent evidence.
"""

from skfisher.prediction.records import (
    Correlation,
    Prediction,
    Predictiveness,
    PredictorComparison,
)
from skfisher.prediction.studies import compare_predictors, predictiveness

__all__ = [
    "Correlation",
    "Prediction",
    "Predictiveness",
    "PredictorComparison",
    "compare_predictors",
    "predictiveness",
]
