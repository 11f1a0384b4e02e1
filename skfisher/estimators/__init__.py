"""scikit-learn estimators: thin coats over the curves, the geometry and the bounds."""

from skfisher.estimators._auditor import LatentGeometryAuditor
from skfisher.estimators._fisher import FisherInformationEstimator
from skfisher.estimators._rate import FIRateEstimator
from skfisher.estimators._report import AuditReport

__all__ = [
    "AuditReport",
    "FIRateEstimator",
    "FisherInformationEstimator",
    "LatentGeometryAuditor",
]
