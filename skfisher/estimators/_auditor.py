"""LatentGeometryAuditor."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sklearn.base import BaseEstimator

from skfisher._backend.arrays import (
    Array,
    cast_like,
    index_like,
    like,
    namespace,
    take_rows,
    to_numpy,
)
from skfisher._backend.devices import place_of, refuse_other_device
from skfisher._backend.draws import permutation, seed_of
from skfisher._backend.rows import recode, sorted_index
from skfisher._backend.validation import as_groups, as_row_weights
from skfisher.bounds import Sandwich, fisher_sandwich, information_sandwich, sandwich_levels
from skfisher.criteria import (
    Diffusability,
    by_curve,
    by_surrogate,
    in_own_scale,
    resolve_criterion,
)
from skfisher.curves import InformationCurve, select_levels
from skfisher.estimators._common import (
    computing_copy,
    fit_curve,
    follow,
    read_sample,
    refuse_elsewhere,
    warn_if_unreliable,
    warn_of_surrogate,
    working_copy,
)
from skfisher.estimators._encoding import (
    Container,
    channel_scales,
    decoding_of,
    draws_its_latents,
    encode_rows,
    encoder_of_means,
    feature_function,
    fitted_encoder,
    latent_shape_of,
    tolerance_of,
    varies,
)
from skfisher.estimators._geometry import diagnosis_of, encoder_geometry, preservation_of
from skfisher.estimators._report import AuditReport
from skfisher.evaluation import CurveFit, curve_of_models
from skfisher.geometry import (
    BiLipschitz,
    LinearMap,
    affine_part,
    nondeterminism,
    plateau_dimension,
)
from skfisher.noise import check_noise_levels, default_noise_levels, rms_scale
from skfisher.samples import make_sample
from skfisher.surrogates import FITTED, fit_surrogate, surrogate_distance

__all__ = ["LatentGeometryAuditor"]

SANDWICH_LEVELS = 7
"""Levels of the sandwiches where there are twice as many levels of the data."""

_ROWS = 5  # stream of the draws that choose the audited rows
_SANDWICHES = (
    ("fisher_information", "wide"),
    ("mmse", "wide"),
    ("fisher_information_rate", "tight"),
    ("mmse_rate", "tight"),
)


class LatentGeometryAuditor(BaseEstimator):
    """Compare data and latent space along the noise, and say how diffusable the latent is.

    Parameters
    ----------
    encoder : transformer, object or None, default=None
        A scikit-learn transformer is cloned and fitted on X, so that a search trains it inside the
        fold (wrap it in `sklearn.frozen.FrozenEstimator` to keep a fitted one). Anything else is
        used as it stands through `transform`, `encode` or its call, in that order. A search copies
        a bare torch module for every candidate, and a `TorchEncoder` never. None is the identity: X
        is a set of cached latents.
    score_model : {"auto", "gaussian", "mixture", "kernel", "network"}, NetworkRecipe or score \
            model, default="auto"
        As in `FIRateEstimator`, except that "auto" trains no network here, whatever the number of
        rows: name it where the minutes it takes are to be had. A given model is used in both spaces
        and so must fit both.
    noise_levels : array-like of shape (T,), default=None
        Levels of the comparison in units of X; the latent is measured at c times these. None: the
        default grid of X. The score always uses the default grid of the latent.
    n_probes : int, default=1
    standardize : bool, default=False
        Bring each latent channel to mean 0 and variance 1 first, as diffusion models often do.
    max_points : int, default=2000
        At most so many rows are audited, drawn at random; the encoder is fitted on all. For
        "surrogate" so many are decoded, and the mixture is fitted to up to five times as many.
    device : None, "auto", str or torch.device, default=None
        As in `FIRateEstimator`. The encoder gets rows in the library of X whatever the device.
    random_state : int, RandomState instance or None, default=0
    latent_shape : tuple of int, default=None
        (C, H, W) of one latent: what `standardize` takes for a channel, and the shape that a
        network is built for. None is the shape that a `TorchEncoder` has found, and otherwise none.
    intrinsic_dimension : int or "auto", default="auto"
        Dimension k of the data's tangent spaces. "auto" estimates it; data whose dimension cannot
        be told from that of their affine hull count as filling it.
    criterion : {"auto", "surrogate", "viv", "complexity"}, default="auto"
        What `diffusability_` and `score` are, higher being better. "surrogate": minus the Frechet
        distance between decoded samples of a Gaussian mixture and decoded latents, in features.
        "viv": minus the velocity irreducible variance, summed over dimensions, over the latent's
        RMS scale; it goes with the dimensions, and is the better the more uneven the variances,
        which `diagnosis_` finds fault with. "complexity": minus the mean of t^2 R / d over 21
        levels from 0.05 to 5 times that scale. "auto" is "surrogate" where `features` are given and
        "viv" elsewhere.
    decoder : object or callable, default=None
        For "surrogate": takes latents, in the library of X, to data, by `decode`,
        `inverse_transform` or its call, in that order. None is that of the encoder.
    features : callable or torch module, default=None
        For "surrogate": takes what the decoder returns, in batches, to one row of numbers each; a
        torch module is given it in the shape in which the encoder's module takes its input. Let it
        be the network by which you would judge generated samples.
    verbose : bool, default=False
        Print the progress of what trains.

    Attributes
    ----------
    diffusability_ : float
        By the criterion; higher is better. Blind to what the encoder lost: put a reconstruction
        error beside it.
    criterion_ : str
        The criterion that "auto" became.
    data_curve_, latent_curve_ : InformationCurve
        Of X on `noise_levels`, of the latent on its own grid.
    matched_curve_ : InformationCurve
        Of the latent at c times the levels of `data_curve_`.
    encoder_ : object
        The fitted encoder; None for the identity.
    bi_lipschitz_ : tuple of float
        (m, L) with m|x - x'| <= |z - z'| <= L|x - x'|: exact on the affine hull of the data for
        affine encoders, otherwise inner estimates from pairs (not refuted, never proved).
    scale_ : float
        c, the one scale between the two spaces.
    penalties_ : Penalties
        `dimensional_compression`, `tangential_distortion`, `encoder_curvature`, `data_curvature`
        with their errors and values per anchor; NaN, with its reason, where one cannot be measured.
        `along_noise` is the account of t^2 R per noise level.
    diagnosis_ : Diagnosis
        The findings by weight, with noise levels, samples and advice.
    sandwich_ : Sandwich or None
        Bounds on J of the latent from J of the data, per level, with status and verdict; None where
        no pair of distinct rows stays apart or L is infinite.
    sandwiches_ : dict of str to Sandwich
        The same for the MMSE, R, the MMSE rate and the mutual information.
    valid_ : bool array of shape (21,)
        Levels of `latent_curve_` that may be believed.
    report_ : AuditReport
    device_ : str
        Where it was computed.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)
        Only where X has string column names.

    Notes
    -----
    After Gu et al., arXiv 2604.02751. For an isometry up to c the MMSE rate of the latent at c t is
    that of the data at t; what differs is what the encoder does to it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from skfisher import LatentGeometryAuditor
    >>> X = np.random.default_rng(0).normal(size=(300, 4)) * [3.0, 2.0, 1.0, 0.1]
    >>> audit = LatentGeometryAuditor(PCA(2), score_model="gaussian").fit(X)
    >>> audit.penalties_.dimensional_compression
    0.5
    """

    def __init__(
        self,
        encoder: Any = None,
        *,
        score_model: Any = "auto",
        noise_levels: Any = None,
        n_probes: int = 1,
        standardize: bool = False,
        max_points: int = 2000,
        device: Any = None,
        random_state: Any = 0,
        latent_shape: Any = None,
        intrinsic_dimension: int | str = "auto",
        criterion: str = "auto",
        decoder: Any = None,
        features: Any = None,
        verbose: bool = False,
    ) -> None:
        self.encoder = encoder
        self.score_model = score_model
        self.noise_levels = noise_levels
        self.n_probes = n_probes
        self.standardize = standardize
        self.max_points = max_points
        self.device = device
        self.random_state = random_state
        self.latent_shape = latent_shape
        self.intrinsic_dimension = intrinsic_dimension
        self.criterion = criterion
        self.decoder = decoder
        self.features = features
        self.verbose = verbose

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None
    ) -> LatentGeometryAuditor:
        """Fit the encoder where it can be, then audit it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like, default=None
            Passed to the encoder's `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows in the curves.
        groups : array-like of shape (n_samples,), default=None
            Rows of one group share a fold and enter the errors as one.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            Sparse X; an encoder, a decoder or features that cannot be called.
        ValueError
            X as in `FIRateEstimator`; an encoder that does not return one finite row per row of X,
            or maps all rows to one point, or returns them on another device than X; the criterion
            "surrogate" without a decoder, or one that does not return one finite row per latent.
        """
        checked = read_sample(self, X, reset=True)
        refuse_elsewhere(
            checked, sample_weight=sample_weight, groups=groups, noise_levels=self.noise_levels
        )
        self._check_parameters()
        self.criterion_: str = resolve_criterion(self.criterion, features=self.features)
        rows = computing_copy(checked, self.device)
        self.device_ = place_of(rows)
        self._seed = seed_of(self.random_state)
        self.encoder_ = fitted_encoder(self.encoder, X, y)
        self._container = Container.of(X)
        n_samples = checked.shape[0]
        given_weights = as_row_weights(sample_weight, n_samples)
        codes = as_groups(groups, n_samples)
        kept, weights, codes, index = self._some_rows(rows, given_weights, codes, self.max_points)
        self._shift, self._spread = None, None
        make_sample(kept, weights)  # refuses X of one distinct row before the encoder is blamed
        latent = self._encode(kept, checked)
        self._refuse_what_is_no_function(kept, checked)
        self._shape = self.latent_shape
        if self._shape is None:
            self._shape = latent_shape_of(self.encoder_)
        if self.standardize:
            self._shift, self._spread = channel_scales(latent, self._shape)
            latent = (latent - self._shift) / self._spread
        if not varies(latent):
            raise ValueError(
                f"encoder maps all {latent.shape[0]} audited rows to one point: it has collapsed, "
                f"and there is nothing to diffuse."
            )
        if self.criterion_ == "surrogate":
            decoding_of(self.decoder, self.encoder_, self._shape)  # refuses before hours of work
            some, heavy, _, _ = self._some_rows(rows, given_weights, None, FITTED * self.max_points)
            fitted_to = latent if some.shape[0] == kept.shape[0] else self._encode(some, checked)
            self._surrogate = fit_surrogate(fitted_to, sample_weight=heavy, random_state=self._seed)
        self._audit(kept, latent, weights, codes, checked, index, n_samples)
        return self

    def _audit(
        self, X: Array, Z: Array, weights: Any, codes: Any, reference: Array, rows: Any, n: int
    ) -> None:
        # the encoder takes rows in the library of X, and so do its derivatives
        moved = type(X) is not type(reference)
        given, image = (to_numpy(X), to_numpy(Z)) if moved else (X, Z)
        # samples of a posterior are no function of the row, their means are
        encoder, means = encoder_of_means(self.encoder_), ""
        if encoder is not self.encoder_:
            image, means = self._encode(given, reference, encoder), " (means of the posterior)"
        fit = affine_part(
            lambda x: self._encode(x, reference, encoder),
            given,
            image,
            rtol=tolerance_of(self.encoder_),
            random_state=self._seed,
        )
        if self.noise_levels is None:
            levels = default_noise_levels(X, sample_weight=weights)
        else:
            levels = check_noise_levels(self.noise_levels, X)
        geometry = encoder_geometry(
            given,
            image,
            encode=encoder,
            container=self._container if self._container.kind is not None else None,
            latent_spread=None if self._spread is None else like(self._spread, image),
            fit=fit,
            intrinsic_dimension=self.intrinsic_dimension,
            sample_weight=weights,
            noise_levels=like(levels, given),
            latent_shape=self._shape,
            random_state=self._seed,
        )
        lipschitz, c = geometry.bi_lipschitz, geometry.scale.c
        if means:  # samples lie farther apart, or nearer, than their means
            lipschitz = replace(lipschitz, exact=False, kind=lipschitz.kind + means)
        L, m = lipschitz.L, lipschitz.m

        # at L times the data's levels, the side of the sandwiches that never fails needs the data
        # where it is measured anyway; the other side takes levels of its own, so a few do
        bounded = math.isfinite(L) and L > 0
        some = list(range(0, levels.shape[0], max(1, levels.shape[0] // SANDWICH_LEVELS)))
        few = take_rows(levels, some)
        over_m = sandwich_levels(L * few, m, L)[0] if bounded else None
        of_data = [levels, few, *([] if over_m is None else [over_m])]
        own = default_noise_levels(Z, sample_weight=weights)
        of_latent = [own, c * levels, *([L * few] if bounded else [])]
        shape = self._shape
        if self.encoder_ is None and self._spread is None:  # one space, measured once
            latent, places, place = self._curve(X, of_data + of_latent, weights, codes, shape)
            data, in_data, in_latent = latent, places[: len(of_data)], places[len(of_data) :]
        else:
            latent, in_latent, place = self._curve(Z, of_latent, weights, codes, shape)
            data, in_data, _ = self._curve(X, of_data, weights, codes, None)
        sandwiches: dict[str, Sandwich] = {}
        if bounded:
            sandwiches = _sandwiches(
                select_levels(latent.curve, in_latent[2]),
                None if over_m is None else select_levels(data.curve, in_data[2]),
                select_levels(data.curve, in_data[1]),
                lipschitz,
                None if means else fit.map,
            )
        own_fit = latent.at(in_latent[0])
        matched = select_levels(latent.curve, in_latent[1])
        data_curve = select_levels(data.curve, in_data[0])
        preservation = preservation_of(geometry, data_curve, matched)
        self._fit, self._scale = own_fit, rms_scale(Z, weights)
        if self.criterion_ == "surrogate":
            found = self._generated(Z, reference, weights, codes)
            warn_of_surrogate(found.surrogate, type(self).__name__)
        else:
            # the VIV is an integral, over all levels that were measured
            whole = self.criterion_ == "viv"
            found = by_curve(self.criterion_, latent if whole else own_fit, self._scale)
            if place is not None:
                # rows that were dropped have weight zero: what they bring is not asked for
                brought = take_rows(found.row_values, place.clip(min=0))
                found = replace(found, row_values=brought)
            if whole:
                found = in_own_scale(found, Z, weights, codes)
        self.data_curve_ = follow(data_curve, reference)
        self.latent_curve_ = follow(own_fit.curve, reference)
        self.matched_curve_ = follow(matched, reference)
        self.valid_ = self.latent_curve_.valid
        self.sandwiches_ = follow(sandwiches, reference)
        self.sandwich_ = self.sandwiches_.get("fisher_information")
        self.diffusability_ = found.value
        self.bi_lipschitz_ = (m, L)
        self.scale_ = c
        self.penalties_ = follow(geometry.penalties, reference)
        diagnosis = diagnosis_of(given, image, geometry, rows, data_curve, matched)
        self.diagnosis_ = follow(diagnosis, reference)
        self.report_ = AuditReport(
            diffusability=self.diffusability_,
            diffusability_stderr=found.stderr,
            own_stderr=found.own_stderr,
            criterion=self.criterion_,
            surrogate=follow(found.surrogate, reference),
            n_samples=n,
            n_rows=X.shape[0],
            standardized=bool(self.standardize),
            random_state=self._seed,
            device=self.device_,
            linear=f"{fit.verdict}: {fit.reason}{means}",
            linear_map=follow(fit.map, reference),
            data_dimension=follow(geometry.data_dimension, reference),
            latent_dimension=follow(geometry.latent_dimension, reference),
            data_plateau=plateau_dimension(data_curve),
            latent_plateau=plateau_dimension(own_fit.curve),
            scale=follow(geometry.scale, reference),
            bi_lipschitz=follow(lipschitz, reference),
            distances=follow(geometry.distances, reference),
            penalties=self.penalties_,
            folds=follow(geometry.folds, reference),
            channels=follow(geometry.channels, reference),
            sandwiches=self.sandwiches_,
            preservation=follow(preservation, reference),
            diagnosis=self.diagnosis_,
            data_curve=self.data_curve_,
            latent_curve=self.latent_curve_,
            matched_curve=self.matched_curve_,
            rows=index_like(rows, reference),
            row_scores=follow(found.row_values, reference),
            row_weights=(
                None if weights is None else follow(like(weights, found.row_values), reference)
            ),
        )

    def _generated(
        self, Z: Array, reference: Array, weights: Any, codes: Any = None
    ) -> Diffusability:
        """Value of "surrogate" on latents as they are measured; decoders are given their own."""
        image = Z if type(Z) is type(reference) else to_numpy(Z)
        shift, spread = (None if s is None else like(s, image) for s in (self._shift, self._spread))
        decode = decoding_of(self.decoder, self.encoder_, self._shape)

        def decoded(rows: Array) -> Any:
            return decode(rows if shift is None else rows * spread + shift)

        return by_surrogate(
            surrogate_distance(
                image,
                decoded,
                features=feature_function(self.features, self.encoder_),
                surrogate=self._surrogate,
                sample_weight=weights,
                groups=codes,
                random_state=self._seed,
            )
        )

    def _curve(
        self, X: Array, grids: Sequence[Array], weights: Any, codes: Any, shape: Any = None
    ) -> tuple[CurveFit, list[list[int]], Any]:
        """Curve on the union of some grids, the place of each grid in it, and of each row."""
        union, places = _union_of_grids(grids)
        fit, sample, _ = fit_curve(
            X,
            score_model=self.score_model,
            noise_levels=union,
            n_probes=self.n_probes,
            random_state=self._seed,
            sample_weight=weights,
            groups=codes,
            with_rate=True,
            latent_shape=shape,
            learn=False,
            verbose=self.verbose,
        )
        return fit, places, sample.place

    def _refuse_what_is_no_function(self, X: Array, reference: Array) -> None:
        """Refuse an encoder that draws, or whose latent of a row depends on the rows beside it."""
        if draws_its_latents(self.encoder_):
            return  # on request, and from a seed
        reason = nondeterminism(lambda x: self._encode(x, reference), X)
        if reason:
            raise ValueError(f"encoder is no function of a row: {reason}.")

    def _check_parameters(self) -> None:
        if not isinstance(self.max_points, numbers.Integral) or self.max_points < 2:
            raise ValueError(
                f"max_points is {self.max_points!r}: pass the most rows to audit, 2 or more."
            )

    def _some_rows(
        self, X: Array, weights: Any, codes: Any, most: int
    ) -> tuple[Array, Any, Any, Any]:
        """At most so many rows, in their order, their weights and groups, and which."""
        order = permutation(self._seed, (_ROWS,), X.shape[0])
        if weights is not None:
            order = order[weights[order] > 0]
        if len(order) <= most:
            return X, weights, codes, sorted_index(range(X.shape[0]))
        index = sorted_index(order[:most])
        return (
            take_rows(X, index),
            None if weights is None else weights[index],
            None if codes is None else recode(codes[index]),
            index,
        )

    def _encode(self, X: Array, reference: Array, encoder: Any = None) -> Array:
        """Latents of rows that were moved to be computed with, there; `reference` was not moved."""
        given = X if type(X) is type(reference) else to_numpy(X)
        Z = encode_rows(self.encoder_ if encoder is None else encoder, given, self._container)
        refuse_other_device(Z, "the encoder's output", reference, X)
        Z = cast_like(working_copy(Z), X)
        if self._spread is None:
            return Z
        return (Z - cast_like(self._shift, Z)) / cast_like(self._spread, Z)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """`diffusability_` measured on X with the fitted encoder and the models fitted to latents.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that were not fitted on; at most `max_points` of them are used.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
            Higher is better.

        Warns
        -----
        UnreliableEstimateWarning
            More than half of the fitted levels are not valid, for a criterion of the curve; fewer
            rows than features, for "surrogate".
        """
        checked = read_sample(self, X, reset=False)
        refuse_elsewhere(checked, sample_weight=sample_weight)
        weights = as_row_weights(sample_weight, checked.shape[0])
        rows = computing_copy(checked, self.device)
        kept, weights, _, _ = self._some_rows(rows, weights, None, self.max_points)
        latent = self._encode(kept, checked)
        if self.criterion_ == "surrogate":
            found = self._generated(latent, checked, weights)
            warn_of_surrogate(found.surrogate, f"{type(self).__name__}.score")
            return found.value
        fitted = self._fit
        fit = curve_of_models(
            make_sample(latent, weights),
            like(fitted.curve.noise_levels, latent),
            fitted.models,
            names=fitted.curve.score_models,
            one_step=fitted.one_step,
            n_probes=self.n_probes,
            seed=self._seed,
            bracket=False,
        )
        warn_if_unreliable(self.latent_curve_, f"{type(self).__name__}.score")
        return by_curve(self.criterion_, fit, self._scale).value


def _union_of_grids(grids: Sequence[Array]) -> tuple[Array, list[list[int]]]:
    """Increasing union of noise levels, equal to 1e-9 taken as one, and each grid's place in it."""
    xp = namespace(*grids)
    values = [[float(sigma) for sigma in grid] for grid in grids]
    union: list[float] = []
    for sigma in sorted(sigma for grid in values for sigma in grid):
        if not union or sigma > union[-1] * (1 + 1e-9):
            union.append(sigma)
    places = [
        [min(range(len(union)), key=lambda k: abs(union[k] - sigma)) for sigma in grid]
        for grid in values
    ]
    return like(union, xp.concat(list(grids))), places


def _sandwiches(
    latent: InformationCurve,
    over_m: InformationCurve | None,
    over_L: InformationCurve,
    lipschitz: BiLipschitz,
    linear: LinearMap | None,
) -> dict[str, Sandwich]:
    """Every sandwich of the latent, by quantity."""
    constants: dict[str, Any] = {
        "m": lipschitz.m,
        "L": lipschitz.L,
        "exact_constants": lipschitz.exact,
    }
    rank = linear.rank_data if linear is not None else over_L.n_features
    evidence = {"exact_constants": lipschitz.kind}
    found = {
        quantity: fisher_sandwich(
            latent,
            over_m,
            over_L,
            rank=rank,
            quantity=quantity,
            kind=kind,
            linear=linear is not None,
            evidence=evidence | ({} if linear is None else {"linear": linear.verified}),
            **constants,
        )
        for quantity, kind in _SANDWICHES
    }
    found["mutual_information"] = information_sandwich(
        latent, over_m, over_L, evidence=evidence, **constants
    )
    return found
