"""Will a diffusion model train well in this latent space? An answer from a sample of latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skfisher._version import __version__

if TYPE_CHECKING:
    from skfisher.bounds import fisher_sandwich, information_sandwich
    from skfisher.compare import compare_encoders
    from skfisher.curves import InformationCurve, gaussian_curve
    from skfisher.estimators import (
        AuditReport,
        FIRateEstimator,
        FisherInformationEstimator,
        LatentGeometryAuditor,
    )
    from skfisher.exceptions import UnreliableEstimateWarning
    from skfisher.scores import GaussianMixtureScore, GaussianScore, KernelScore

# Public names and their homes, imported at first use: `import skfisher` stays light.
_HOMES = {
    "AuditReport": "skfisher.estimators",
    "FIRateEstimator": "skfisher.estimators",
    "FisherInformationEstimator": "skfisher.estimators",
    "LatentGeometryAuditor": "skfisher.estimators",
    "GaussianMixtureScore": "skfisher.scores",
    "GaussianScore": "skfisher.scores",
    "KernelScore": "skfisher.scores",
    "InformationCurve": "skfisher.curves",
    "gaussian_curve": "skfisher.curves",
    "fisher_sandwich": "skfisher.bounds",
    "information_sandwich": "skfisher.bounds",
    "compare_encoders": "skfisher.compare",
    "UnreliableEstimateWarning": "skfisher.exceptions",
}

__all__ = [
    "AuditReport",
    "FIRateEstimator",
    "FisherInformationEstimator",
    "GaussianMixtureScore",
    "GaussianScore",
    "InformationCurve",
    "KernelScore",
    "LatentGeometryAuditor",
    "UnreliableEstimateWarning",
    "__version__",
    "compare_encoders",
    "fisher_sandwich",
    "gaussian_curve",
    "information_sandwich",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'skfisher' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
