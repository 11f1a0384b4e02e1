"""Will a diffusion model train well in this latent space? An answer from a sample of latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skfisher._version import __version__

if TYPE_CHECKING:
    from skfisher.bounds import fisher_sandwich, information_sandwich
    from skfisher.channels import channel_report
    from skfisher.compare import compare_encoders
    from skfisher.conditional import class_conditional_curve
    from skfisher.curves import InformationCurve, gaussian_curve
    from skfisher.encoders import TorchEncoder
    from skfisher.estimators import (
        AuditReport,
        FIRateEstimator,
        FisherInformationEstimator,
        LatentGeometryAuditor,
    )
    from skfisher.exceptions import (
        MissingTorchWarning,
        UnnormalizedLatentsWarning,
        UnreliableEstimateWarning,
    )
    from skfisher.functional import information_curve
    from skfisher.prediction import predictiveness
    from skfisher.preservation import preserves_fisher_rate
    from skfisher.rivals import rival_metrics
    from skfisher.scores import (
        GaussianMixtureScore,
        GaussianScore,
        KernelScore,
        NetworkRecipe,
        from_denoiser,
        from_diffusers,
        from_module,
    )

# Public names and their homes, imported at first use: `import skfisher` stays light.
_HOMES = {
    "AuditReport": "skfisher.estimators",
    "FIRateEstimator": "skfisher.estimators",
    "FisherInformationEstimator": "skfisher.estimators",
    "LatentGeometryAuditor": "skfisher.estimators",
    "GaussianMixtureScore": "skfisher.scores",
    "GaussianScore": "skfisher.scores",
    "KernelScore": "skfisher.scores",
    "NetworkRecipe": "skfisher.scores",
    "from_denoiser": "skfisher.scores",
    "from_diffusers": "skfisher.scores",
    "from_module": "skfisher.scores",
    "TorchEncoder": "skfisher.encoders",
    "channel_report": "skfisher.channels",
    "class_conditional_curve": "skfisher.conditional",
    "information_curve": "skfisher.functional",
    "InformationCurve": "skfisher.curves",
    "gaussian_curve": "skfisher.curves",
    "fisher_sandwich": "skfisher.bounds",
    "information_sandwich": "skfisher.bounds",
    "compare_encoders": "skfisher.compare",
    "predictiveness": "skfisher.prediction",
    "preserves_fisher_rate": "skfisher.preservation",
    "rival_metrics": "skfisher.rivals",
    "MissingTorchWarning": "skfisher.exceptions",
    "UnnormalizedLatentsWarning": "skfisher.exceptions",
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
    "MissingTorchWarning",
    "NetworkRecipe",
    "TorchEncoder",
    "UnnormalizedLatentsWarning",
    "UnreliableEstimateWarning",
    "__version__",
    "channel_report",
    "class_conditional_curve",
    "compare_encoders",
    "fisher_sandwich",
    "from_denoiser",
    "from_diffusers",
    "from_module",
    "gaussian_curve",
    "information_curve",
    "information_sandwich",
    "predictiveness",
    "preserves_fisher_rate",
    "rival_metrics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'skfisher' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
