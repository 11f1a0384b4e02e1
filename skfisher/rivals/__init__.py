"""Published numbers about latent spaces, on one footing.

Each is a function of a sample of latents that returns a `Metric`: value, standard error, which way
is better in the literature, the source, and how the latents were standardised. Letters as in the
papers: latents Z of shape (N, C, H, W), (N, C, L) or flat (N, d) with `latent_shape` beside them.
"""

from skfisher.rivals.decoding import (
    TRANSFORMS,
    affine_equivariance,
    interpolation_distance,
)
from skfisher.rivals.density import gmm_likelihood, hypersphere_uniformity, uniformity
from skfisher.rivals.metric import Metric
from skfisher.rivals.neighbours import mle_dimension, neighbour_consistency, two_nn_dimension
from skfisher.rivals.structure import (
    correlation_decay_slope,
    local_distant_similarity,
    spectral_energy_concentration,
)
from skfisher.rivals.suite import RIVALS, rival_metrics
from skfisher.rivals.variance import (
    KroneckerFactors,
    gaussian_viv,
    kronecker_factors,
    kronecker_viv,
)

__all__ = [
    "RIVALS",
    "TRANSFORMS",
    "KroneckerFactors",
    "Metric",
    "affine_equivariance",
    "correlation_decay_slope",
    "gaussian_viv",
    "gmm_likelihood",
    "hypersphere_uniformity",
    "interpolation_distance",
    "kronecker_factors",
    "kronecker_viv",
    "local_distant_similarity",
    "mle_dimension",
    "neighbour_consistency",
    "rival_metrics",
    "spectral_energy_concentration",
    "two_nn_dimension",
    "uniformity",
]
