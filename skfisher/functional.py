"""The information curve as a function, of rows and of image-shaped latents."""

from __future__ import annotations

from typing import Any

from skfisher._backend.arrays import Array
from skfisher.channels import (
    channel_report,
    check_latent_shape,
    flatten_latents,
    latent_normalization,
    normalize_latents,
    warn_if_unnormalized,
)
from skfisher.conditional import class_conditional_curve
from skfisher.curves import InformationCurve
from skfisher.estimators._common import fit_curve, follow, given_model, working_copy

__all__ = ["information_curve"]


def information_curve(
    X: Any,
    *,
    y: Any = None,
    score_model: Any = "auto",
    noise_levels: Any = None,
    class_conditional: bool = False,
    latent_shape: Any = None,
    standardize: bool = False,
    config: Any = None,
    n_probes: int = 1,
    random_state: Any = 0,
    sample_weight: Any = None,
    groups: Any = None,
    with_rate: bool = True,
    verbose: bool = False,
) -> InformationCurve:
    """Information quantities of a sample along Gaussian noise; one call, no estimator.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Of any array library.
    y : array-like of shape (n_samples,), default=None
        Labels, for `class_conditional`.
    score_model, noise_levels, n_probes, random_state, sample_weight, groups
        As in `skfisher.FIRateEstimator`. Noise levels are in units of X after normalisation.
    class_conditional : bool
        The average over the classes of `y`, see `skfisher.conditional.class_conditional_curve`.
    latent_shape : tuple of int, default=None
        (C, H, W) of one row where X is two-dimensional.
    standardize : bool
        Bring every channel of the sample to mean 0 and variance 1 first; without a latent shape
        every column is a channel.
    config : mapping or object, default=None
        Apply the `scaling_factor`, `shift_factor`, `latents_mean` and `latents_std` of this
        configuration first, see `skfisher.channels.latent_normalization`.
    with_rate : bool
        Whether R and what follows from it is wanted.
    verbose : bool

    Returns
    -------
    InformationCurve
        In X's library, dtype and device.

    Raises
    ------
    TypeError, ValueError
        As `skfisher.FIRateEstimator.fit`; a `latent_shape` that does not fit; both `standardize`
        and `config`; labels without `class_conditional`, or the other way round.

    Warns
    -----
    UnnormalizedLatentsWarning
        Image-shaped latents whose channels differ in scale or are dead, and for a given score model
        any that are not normalised.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.functional import information_curve
    >>> Z = np.random.default_rng(0).normal(size=(400, 2, 2, 2))
    >>> curve = information_curve(Z, score_model="gaussian", noise_levels=[1.0])
    >>> bool(abs(curve.fisher_information[0] - 4.0) < 5 * curve.fisher_information_stderr[0] + 0.2)
    True
    """
    if class_conditional and y is None:
        raise ValueError("class_conditional is True but y is None: pass one label per row as y.")
    if y is not None and not class_conditional:
        raise ValueError(
            "y was passed but class_conditional is False: pass class_conditional=True, or no y."
        )
    if standardize and config is not None:
        raise ValueError(
            "standardize is True and config was passed: choose the statistics of the sample or "
            "those of the configuration."
        )
    rows, own_shape = flatten_latents(X, min_samples=2)
    shape = own_shape or latent_shape
    if shape is not None:
        shape = check_latent_shape(shape, rows.shape[1])
    data = _normalized(working_copy(rows), shape, standardize, config)
    if shape is not None and not standardize and not getattr(score_model, "rescales", False):
        # a fitted family is measured on the sample's own scale, a given model on that of its data
        warn_if_unnormalized(data, shape, scale_free=not given_model(score_model), stacklevel=3)
    common: dict[str, Any] = {
        "score_model": score_model,
        "noise_levels": noise_levels,
        "n_probes": n_probes,
        "random_state": random_state,
        "sample_weight": sample_weight,
        "groups": groups,
        "with_rate": with_rate,
        "latent_shape": shape,
        "verbose": verbose,
    }
    if class_conditional:
        curve = class_conditional_curve(data, y, unconditional=False, **common).curve
    else:
        curve = fit_curve(data, **common)[0].curve
    return follow(curve, rows)


def _normalized(rows: Array, shape: Any, standardize: bool, config: Any) -> Array:
    if standardize:
        report = channel_report(rows, shape)
        return normalize_latents(rows, report.shift, report.scale, shape)
    if config is not None:
        return normalize_latents(rows, *latent_normalization(config), shape)
    return rows
