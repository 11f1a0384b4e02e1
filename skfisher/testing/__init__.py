"""For users' own score models: strict comparison, laws that every score obeys, exact oracles.

The oracle of a Gaussian is `skfisher.curves.gaussian_curve`; those here cover laws without a
closed form, by quadrature of the exact density.
"""

from skfisher.testing.comparison import assert_close
from skfisher.testing.laws import ScoreModelCheck, ScoreModelReport, check_score_model
from skfisher.testing.oracles import Oracle, circle_oracle, mixture_1d_oracle, sphere_oracle

__all__ = [
    "Oracle",
    "ScoreModelCheck",
    "ScoreModelReport",
    "assert_close",
    "check_score_model",
    "circle_oracle",
    "mixture_1d_oracle",
    "sphere_oracle",
]
