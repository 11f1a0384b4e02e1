"""The encoder as a map between metric spaces: is it affine, how far does it stretch, what is lost.

Letters: X in R^D is the data, Z = f(X) in R^d the latent, k the dimension of the data's affine
hull, sigma_i the singular values of f on the directions of that hull, m and L constants with
m |x - x'| <= |f(x) - f(x')| <= L |x - x'| for all pairs.
"""

from skfisher.geometry.affine import AffineFit, LinearMap, affine_part, hull_dimension
from skfisher.geometry.distances import BiLipschitz, Scale, bi_lipschitz, scale
from skfisher.geometry.penalties import Penalties, penalties

__all__ = [
    "AffineFit",
    "BiLipschitz",
    "LinearMap",
    "Penalties",
    "Scale",
    "affine_part",
    "bi_lipschitz",
    "hull_dimension",
    "penalties",
    "scale",
]
