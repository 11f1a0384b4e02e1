"""FisherInformationEstimator."""

from __future__ import annotations

from math import isfinite
from statistics import fmean
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if

from skfisher._backend.devices import place_of
from skfisher._backend.draws import seed_of
from skfisher.conditional import class_conditional_curve, conditional_like
from skfisher.estimators._common import (
    computing_copy,
    fit_curve,
    follow,
    given_model,
    read_sample,
    refuse_elsewhere,
    score_curve,
)
from skfisher.estimators._partial import PartialFit, partially_fitted
from skfisher.evaluation import CurveFit

__all__ = ["FisherInformationEstimator"]


def _fixed_model_and_levels(estimator: Any) -> bool:
    """Whether batches can be added up: only a given model at given levels sees them alike."""
    fixed = given_model(estimator.score_model) and estimator.noise_levels is not None
    if fixed and not estimator.class_conditional:
        return True
    raise AttributeError(
        f"{type(estimator).__name__} has no partial_fit with score_model="
        f"{estimator.score_model!r}, noise_levels={estimator.noise_levels!r} and class_conditional="
        f"{estimator.class_conditional!r}: pass a score model and noise levels for all classes "
        f"alike, so that every batch is measured alike."
    )


class FisherInformationEstimator(BaseEstimator):
    """Fisher information, MMSE and effective dimension of a sample along Gaussian noise.

    With Y = X + sigma eps, J(sigma^2) = E|grad log p(Y)|^2 is estimated at every noise level with a
    standard error and a bracket that holds in expectation.

    Parameters
    ----------
    score_model : {"auto", "gaussian", "mixture", "kernel", "network"}, NetworkRecipe or score \
            model, default="auto"
        A name is a family fitted to X, cross-fitted so that no row is scored by a model that saw
        it; "auto" lets them compete at every noise level by the held-out noise-prediction score.
        "network" trains a network in torch, a `NetworkRecipe` one of its own options. A score
        model, called as ``model(y, sigma)`` and if it can as ``model.jvp(y, sigma, v)``, is taken
        as exact and used as it stands.
    noise_levels : array-like of shape (T,), default=None
        Increasing standard deviations in units of X. None: 21 geometric levels from 0.05 to 5 times
        the RMS scale of X.
    n_probes : int, default=1
        Probes per row where traces are not exact (score models without closed form, more than 64
        features).
    random_state : int, RandomState instance or None, default=0
        Seed of the noise, the probes, the folds, and the starts of mixtures and networks.
    class_conditional : bool, default=False
        Take y as labels and average the curves of the classes, each with score models of its own
        (a mapping from label to score model gives them): what a class-conditional generator is up
        against. See `skfisher.class_conditional_curve`.
    latent_shape : tuple of int, default=None
        (C, H, W) of one row of X, from which a network takes its architecture; None takes rows as
        plain vectors.
    device : None, "auto", str or torch.device, default=None
        None computes where X lies. A torch device ("cpu", "cuda", "cuda:1") moves NumPy input
        there as tensors, and brings the results back; a score model is then called with tensors.
        "auto" is CUDA where torch sees one and X is NumPy, and otherwise where X lies.
    verbose : bool, default=False
        Print the progress of what trains.

    Attributes
    ----------
    noise_levels_ : array of shape (T,)
        sigma in units of X.
    fisher_information_, fisher_information_stderr_ : array of shape (T,)
        J in 1/x^2.
    fisher_information_bounds_, fisher_information_bounds_stderr_ : array of shape (T, 2)
        Lower bound (held-out score matching) and upper bound (smoothed empirical law), each proved
        in expectation over samples; NaN above after `partial_fit`.
    mmse_ : array of shape (T,)
        n t - t^2 J in x^2.
    noise_gain_ : array of shape (T,)
        n - 2 t J.
    effective_dimension_ : array of shape (T,)
        n - t J.
    valid_ : bool array of shape (T,)
        Where the numbers may be believed.
    score_model_ : tuple of str
        Name of the score model used at each level.
    curve_ : InformationCurve
        All of these with their errors, the mutual information and the VIV.
    conditional_ : ConditionalCurve
        Only with `class_conditional`: curves of the classes, the one without labels, and the
        information that the label carries.
    training_ : tuple of TrainingLog
        Of the networks that were trained for it.
    device_ : str
        Where it was computed.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)
        Only where X has string column names.

    Notes
    -----
    A family that is fitted enters J through the implicit and the denoising form of score matching,
    whose error is of second order in the model's: the value lies below J by E|s_theta - s|^2, and
    its standard error covers data, noise and probes. A given model enters through its norm, trace
    and cross form. See Gu et al., arXiv 2604.02751, for the framework; Hyvarinen (2005) and Vincent
    (2011) for the two forms.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher import FisherInformationEstimator
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> est = FisherInformationEstimator(score_model="gaussian", noise_levels=[1.0]).fit(X)
    >>> bool(abs(est.fisher_information_[0] - 1.0) < 4 * est.fisher_information_stderr_[0])
    True
    """

    def __init__(
        self,
        score_model: Any = "auto",
        noise_levels: Any = None,
        n_probes: int = 1,
        random_state: Any = 0,
        *,
        class_conditional: bool = False,
        latent_shape: Any = None,
        device: Any = None,
        verbose: bool = False,
    ) -> None:
        self.score_model = score_model
        self.noise_levels = noise_levels
        self.n_probes = n_probes
        self.random_state = random_state
        self.class_conditional = class_conditional
        self.latent_shape = latent_shape
        self.device = device
        self.verbose = verbose

    _with_rate = False

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = bool(self.class_conditional)
        return tags

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None
    ) -> FisherInformationEstimator:
        """Estimate the information curve of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two distinct rows. Equal rows count as one row of their joint weight.
        y : array-like of shape (n_samples,), default=None
            Labels where `class_conditional` is set; ignored otherwise.
        sample_weight : array-like of shape (n_samples,), default=None
            Integer weights equal repetition of rows.
        groups : array-like of shape (n_samples,), default=None
            Rows of one group share a fold and enter the errors as one.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            A `device` where torch is not installed.
        TypeError
            Sparse X; a score model that cannot be called.
        ValueError
            NaN, infinite, complex, empty or text input, fewer than two distinct rows; noise levels
            that are not positive and increasing; a score model of the wrong shape, or that is not
            finite at any level; labels that are missing, or a class of too few rows; a
            `latent_shape` of another number of features; a `device` that is
            not there; weights, groups or levels on another device than X.
        """
        checked = read_sample(self, X, reset=True)
        refuse_elsewhere(
            checked, sample_weight=sample_weight, groups=groups, noise_levels=self.noise_levels
        )
        rows = computing_copy(checked, self.device)
        options: dict[str, Any] = {
            "score_model": self.score_model,
            "noise_levels": self.noise_levels,
            "n_probes": self.n_probes,
            "sample_weight": sample_weight,
            "groups": groups,
            "with_rate": self._with_rate,
            "latent_shape": self.latent_shape,
            "verbose": self.verbose,
        }
        if self.class_conditional:
            self._seed = seed_of(self.random_state)
            found = class_conditional_curve(rows, y, random_state=self._seed, **options)
            self._classes, self.conditional_ = found, conditional_like(found, checked)
            logs = tuple(log for each in found.fits for log in each.learning)
            one_step = not given_model(self.score_model)
            fit = CurveFit(found.curve, (), one_step, logs)
        else:
            fit, _, self._seed = fit_curve(rows, random_state=self.random_state, **options)
        self._partial: PartialFit | None = None
        self.device_ = place_of(rows)
        self._store(fit, checked)
        return self

    @available_if(_fixed_model_and_levels)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> FisherInformationEstimator:
        """Add a batch of rows; offered where both score model and noise levels are given.

        The batches together give what `fit` gives on all rows, up to rounding, but for the upper
        bound, which needs all rows at once, and for equal rows in different batches, which count as
        independent.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self
        """
        so_far: PartialFit | None = getattr(self, "_partial", None)
        checked = read_sample(self, X, reset=so_far is None, min_samples=1)
        refuse_elsewhere(checked, sample_weight=sample_weight, noise_levels=self.noise_levels)
        rows = computing_copy(checked, self.device)
        fit, self._partial, self._seed = partially_fitted(
            self, rows, sample_weight, so_far, self._with_rate
        )
        self.device_ = place_of(rows)
        self._store(fit, checked)
        return self

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Held-out noise-prediction score on X, averaged over the fitted levels that are finite.

        1 - E|eps - eps_theta|^2 / n, a proper scoring rule in (-inf, 1]: it compares score models
        on one space, not spaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that were not fitted on.
        y : array-like of shape (n_samples,), default=None
            Labels where `class_conditional` is set; ignored otherwise.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
            Higher is better.
        """
        curve = score_curve(self, X, y, sample_weight, with_rate=False)
        levels = [float(value) for value in curve.noise_prediction_score]
        return fmean(value for value in levels if isfinite(value))

    def _store(self, fit: Any, reference: Any) -> None:
        self._fit = fit
        self.training_ = fit.learning
        curve = self.curve_ = follow(fit.curve, reference)
        self.noise_levels_ = curve.noise_levels
        self.fisher_information_ = curve.fisher_information
        self.fisher_information_stderr_ = curve.fisher_information_stderr
        self.fisher_information_bounds_ = curve.fisher_information_bounds
        self.fisher_information_bounds_stderr_ = curve.fisher_information_bounds_stderr
        self.mmse_ = curve.mmse
        self.noise_gain_ = curve.noise_gain
        self.effective_dimension_ = curve.effective_dimension
        self.valid_ = curve.valid
        self.score_model_ = curve.score_models
