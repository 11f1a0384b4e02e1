"""When does a latent keep the data's Fisher information rate: limits on distortion and curvature.

Judged by the dimension-free gap (rate_Z(c^2 t) - rate_X(t)) / k of the MMSE rates, with k the
data's intrinsic dimension and c the encoder's scale. What is known of it:

Scaled rigid maps of any data: 0 (proved).

Affine maps of Gaussians (proved). Let log(sigma_i^2 / c^2) be the eigenvalues of S, the logarithm
of G / c^2, and M_s = e^(sS/2) Sigma e^(sS/2) the path from the data's covariance (s = 0) to one
with the latent's spectrum in units of c^2 (s = 1). In the eigenbasis of M_s, with eigenvalues
lambda_i and p_i = lambda_i / (lambda_i + t), d rate / ds = 2 sum_i S_ii p_i^2 (1 - p_i), and
p^2 (1 - p) lies between 0 and 4/27. As c^2 is the geometric mean, tr S = 0, so 2/27 may be taken
off each p^2 (1 - p), and with Cauchy-Schwarz

    |gap| <= (4/27) sqrt(TD),    TD = |S|_F^2 / k the tangential distortion,

which is attained as TD -> 0 (half of the directions at p = 2/3 and the others without noise). From
constants alone, by the sandwich of the rates, -(8/27) log(c^2/m^2) <= gap <= (8/27) log(L^2/c^2).
Where only r of k directions are kept, the bound holds for these (TD over them, times r/k), and the
lost ones take between 0 and (k - r)/k off the gap, by the interlacing of the eigenvalues of a
covariance and of its part on a subspace; the latent's rate is at most r.

Curvature, to first order in t (model). A smooth density q on a k-manifold has
d_eff = k + t E[|II|^2 / 2 - Scal - |grad log q|^2] + O(t^2), and the rate's first order is twice
that. A local isometry keeps the scalar curvature Scal and q, so only the second fundamental forms
remain. With u uniform on unit tangents, E_u |II(u,u)|^2 = (2 |II|^2 + |tr II|^2) / (k (k + 2)), and
|tr II|^2 = |II|^2 + Scal by Gauss' equation, so that

    gap = t (k + 2)/3 (c^2 kappa_Z - kappa_X) + O(t^2),    kappa = E |II(u,u)|^2,

kappa_X the data curvature and kappa_Z the bending of the latent's image of it (1/z^2).
"""

from skfisher.preservation.limits import curvature_gap, largest_curvature, largest_distortion
from skfisher.preservation.verdict import Preservation, preserves_fisher_rate

__all__ = [
    "Preservation",
    "curvature_gap",
    "largest_curvature",
    "largest_distortion",
    "preserves_fisher_rate",
]
