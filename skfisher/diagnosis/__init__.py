"""From the numbers of an audit to what is wrong with a latent space, where, and what to change.

Every finding is weighed in one unit: what it may take from, or add to, the dimension-free MMSE rate
per dimension of the data at the noise level at which findings are compared, 0.3 times the RMS scale
of the data. That weight is a model throughout; for distortion it is the bound that is proved for
affine maps of Gaussians, for curvature the first order in the noise.
"""

from skfisher.diagnosis.findings import FINDINGS, REFERENCE_NOISE, SERIOUS, Diagnosis, Finding
from skfisher.diagnosis.weighing import diagnose, is_folded

__all__ = [
    "FINDINGS",
    "REFERENCE_NOISE",
    "SERIOUS",
    "Diagnosis",
    "Finding",
    "diagnose",
    "is_folded",
]
