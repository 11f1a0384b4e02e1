"""scikit-learn estimators: thin coats over the curves, the geometry and the bounds."""

from skfisher.estimators._auditor import AuditReport, LatentGeometryAuditor
from skfisher.estimators._fisher import FisherInformationEstimator
from skfisher.estimators._rate import FIRateEstimator

__all__ = [
    "AuditReport",
    "FIRateEstimator",
    "FisherInformationEstimator",
    "LatentGeometryAuditor",
]
