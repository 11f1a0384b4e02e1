"""The encoder as a map between metric spaces: is it affine, how far does it stretch, what is lost.

Letters: X in R^D is the data, Z = f(X) in R^d the latent, k the dimension of the data's tangent
spaces (of its affine hull where it fills that), sigma_i the singular values of Df on them, m and L
constants with m |x - x'| <= |f(x) - f(x')| <= L |x - x'| for all pairs.
"""

from skfisher.geometry.affine import AffineFit, LinearMap, affine_part, hull_dimension
from skfisher.geometry.derivatives import Derivatives, directional_derivatives, pushforward
from skfisher.geometry.diffeomorphism import ChangeOfVariables, change_of_variables
from skfisher.geometry.dimension import (
    IntrinsicDimension,
    PlateauDimension,
    intrinsic_dimension,
    plateau_dimension,
)
from skfisher.geometry.distances import BiLipschitz, Scale, bi_lipschitz, scale
from skfisher.geometry.fits import EncoderFit, LocalFit, fit_encoder, fit_second_form
from skfisher.geometry.folds import FoldReport, fold_share
from skfisher.geometry.images import nondeterminism
from skfisher.geometry.penalties import Penalties, penalties
from skfisher.geometry.pointwise import PointwiseGeometry, pointwise_geometry
from skfisher.geometry.profiles import DistanceProfile, distance_profile
from skfisher.geometry.reach import Reach, reach_estimate
from skfisher.geometry.spectra import SingularValues, singular_values
from skfisher.geometry.tangents import (
    ScoreTangents,
    TangentSpaces,
    projector_dimension,
    score_tangents,
    tangent_spaces,
)

__all__ = [
    "AffineFit",
    "BiLipschitz",
    "ChangeOfVariables",
    "Derivatives",
    "DistanceProfile",
    "EncoderFit",
    "FoldReport",
    "IntrinsicDimension",
    "LinearMap",
    "LocalFit",
    "Penalties",
    "PlateauDimension",
    "PointwiseGeometry",
    "Reach",
    "Scale",
    "ScoreTangents",
    "SingularValues",
    "TangentSpaces",
    "affine_part",
    "bi_lipschitz",
    "change_of_variables",
    "directional_derivatives",
    "distance_profile",
    "fit_encoder",
    "fit_second_form",
    "fold_share",
    "hull_dimension",
    "intrinsic_dimension",
    "nondeterminism",
    "penalties",
    "plateau_dimension",
    "pointwise_geometry",
    "projector_dimension",
    "pushforward",
    "reach_estimate",
    "scale",
    "score_tangents",
    "singular_values",
    "tangent_spaces",
]
