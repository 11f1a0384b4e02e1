"""FIRateEstimator."""

from __future__ import annotations

from typing import Any

from skfisher.curves import mean_complexity
from skfisher.estimators._common import score_curve, warn_if_unreliable
from skfisher.estimators._fisher import FisherInformationEstimator

__all__ = ["FIRateEstimator"]


class FIRateEstimator(FisherInformationEstimator):
    """Fisher information, its rate and the MMSE rate of a sample along Gaussian noise.

    With Y = X + sigma eps, t = sigma^2 and H the Hessian of log p_t, R(t) = E|H|_F^2 = -dJ/dt, and
    the MMSE grows at the rate n - 2tJ + t^2 R: an intrinsic noise gain and a geometric complexity
    penalty.

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
        the RMS scale of X, so that the score depends neither on the unit of X nor on a grid that a
        candidate may choose.
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
        in expectation over samples. R has no such bracket.
    fisher_information_rate_, fisher_information_rate_stderr_ : array of shape (T,)
        R in 1/x^4.
    mmse_, mmse_rate_ : array of shape (T,)
        n t - t^2 J in x^2, and its derivative by t.
    noise_gain_, complexity_penalty_ : array of shape (T,)
        n - 2 t J and t^2 R, which add up to the MMSE rate.
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
    `skfisher.forms` lists the forms of J and R that are combined by their estimated errors. For a
    fitted family all of them err by the second power of the model's error only. R = -dJ/dt is de
    Bruijn's identity; see Gu et al., arXiv 2604.02751, for the framework.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher import FIRateEstimator
    >>> X = np.random.default_rng(0).normal(size=(2000, 2))
    >>> est = FIRateEstimator(score_model="gaussian", noise_levels=[1.0]).fit(X)
    >>> error = est.fisher_information_rate_[0] - 0.5
    >>> bool(abs(error) < 4 * est.fisher_information_rate_stderr_[0])
    True
    >>> bool(abs(est.mmse_rate_[0] - (est.noise_gain_[0] + est.complexity_penalty_[0])) < 1e-12)
    True
    """

    _with_rate = True

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the mean of t^2 R / n over the fitted noise levels, measured on X.

        Of one space. Over latents of different encoders it predicts generation badly ("The
        evidence" in the documentation): to compare those, take `LatentGeometryAuditor` with
        features. It does not see lost information: put a reconstruction error beside it.

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

        Warns
        -----
        UnreliableEstimateWarning
            More than half of the fitted levels are not valid.
        """
        curve = score_curve(self, X, y, sample_weight, with_rate=True)
        warn_if_unreliable(self.curve_, f"{type(self).__name__}.score")
        return -mean_complexity(curve)[0]

    def _store(self, fit: Any, reference: Any) -> None:
        super()._store(fit, reference)
        self.fisher_information_rate_ = self.curve_.fisher_information_rate
        self.fisher_information_rate_stderr_ = self.curve_.fisher_information_rate_stderr
        self.mmse_rate_ = self.curve_.mmse_rate
        self.complexity_penalty_ = self.curve_.complexity_penalty
