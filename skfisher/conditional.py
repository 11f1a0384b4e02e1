r"""Curves of labelled data: each class by itself, their mean, and what the label tells.

A generator that is given the label c learns the laws P_c of X given c, with shares p_c. Along the
noise Y = X + sigma eps the average over classes of every linear quantity belongs to it:

* J_cond = sum p_c J_c, and likewise R, the MMSE and its rate, d_eff, I(X; Y | c) and the VIV; the
  identities between them, being linear, hold for the averages (exact).
* J <= J_cond at every noise level, as J is convex in the law of X; equivalently the MMSE can only
  fall when the label is known (proved). R has no such order pointwise, but its integral from t on
  is J, so that of R_cond - R is not negative.
* c - X - Y is a Markov chain, so I(X; Y) = I(c; Y) + I(X; Y | c): the information that the noisy
  sample has about the label is I(X; Y) - I(X; Y | c) = 1/2 int_t^inf (J_cond - J) du, between 0
  and the entropy of the label (exact).
* E|eps - eps_theta(Y, c)|^2 bounds J_cond from below as it bounds J, and the smoothed empirical
  laws of the classes from above: the averages of the classes' bounds are bounds (proved in
  expectation).

Shares are estimated from the same rows. With theta_c the quantity of class c, N independent rows
and p_hat their shares, Var sum p_hat theta_hat = sum p_c^2 Var theta_hat_c + theta^T Cov(p_hat)
theta: the law of total variance. Textbook identities: de Bruijn, Guo, Shamai and Verdu (2005) for
the integral, Cover and Thomas for the chain rule; the framework is that of Gu et al., arXiv
2604.02751.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from array_api_compat import device

from skfisher._backend.arrays import Array, like, namespace, take_rows, to_numpy
from skfisher._backend.draws import integers, seed_of
from skfisher._backend.rows import distinct_rows, recode, sorted_index, sum_by_code
from skfisher._backend.validation import as_groups, as_row_weights
from skfisher.assembly import why_invalid
from skfisher.channels import check_latent_shape, flatten_latents
from skfisher.crossfit import FAMILIES, N_FOLDS, cross_fitted_curve
from skfisher.curves import InformationCurve, Validity, curve_like
from skfisher.evaluation import CurveFit, curve_of_models
from skfisher.noise import check_noise_levels, default_noise_levels
from skfisher.samples import Sample, make_sample
from skfisher.scores.wrap import as_score_model
from skfisher.traces import pooled_means

__all__ = [
    "MIN_CLASS_ROWS",
    "ConditionalCurve",
    "class_conditional_curve",
    "conditional_like",
    "curve_of_classes",
    "pool_curves",
]

MIN_CLASS_ROWS = 2 * N_FOLDS
"""Fewest distinct rows (or groups) of a class to which score models are fitted."""

_CLASSES = 901  # stream of the classes' own seeds
_NAMED = 5  # classes that a message lists one by one


@dataclass(frozen=True, eq=False)
class ConditionalCurve:
    """Curves of labelled data at common noise levels.

    Attributes
    ----------
    classes : tuple
        The K labels, sorted.
    shares : array of shape (K,)
        p_c, by weight.
    shares_covariance : array of shape (K, K)
        Of their sampling errors.
    curve : InformationCurve
        Averages over the classes: J_cond, R_cond, ..., I(X; Y | c), the class-conditional VIV. A
        level is valid where these averages keep the limits of `Validity`: errors of the classes
        average out, and a class that fails is felt by its share. The posterior's size is the
        classes' median by share.
    class_curves : tuple of K InformationCurve
    class_valid : bool array of shape (T, K)
        Which classes may be believed by themselves.
    unconditional : InformationCurve or None
        Of all rows without their labels.
    fisher_information_gap, fisher_information_gap_stderr : array of shape (T,)
        J_cond - J, not negative for the laws themselves.
    label_information, label_information_stderr : array of shape (T,)
        I(c; Y) in nats.
    label_information_bounds : array of shape (T, 2)
        With the tails beyond the last level closed from either side, kept within 0 and the entropy.
    label_entropy : float
        Of the shares, in nats: what a sample without noise can tell at most (biased low by about
        (K - 1) / 2N).
    fits : tuple of K CurveFit
        The classes' curves with the score models that were fitted.

    Notes
    -----
    The errors of gap and label information take those of the two curves as independent. Both are
    measured on the same rows and tend to move together, so the differences are known better than
    stated. A fitted score model lowers J and J_cond by its own error, the classes' usually more, as
    each has fewer rows: the label's information is then too small.
    """

    classes: tuple[Any, ...]
    shares: Array
    shares_covariance: Array
    curve: InformationCurve
    class_valid: Array
    unconditional: InformationCurve | None
    fisher_information_gap: Array
    fisher_information_gap_stderr: Array
    label_information: Array
    label_information_stderr: Array
    label_information_bounds: Array
    label_entropy: float
    fits: tuple[CurveFit, ...]

    @property
    def class_curves(self) -> tuple[InformationCurve, ...]:
        """The curve of each class."""
        return tuple(fit.curve for fit in self.fits)

    def __getitem__(self, label: Any) -> InformationCurve:
        """The curve of a class by its label."""
        if label not in self.classes:
            raise KeyError(f"no class {label!r} among {_names(self.classes)}")
        return self.fits[self.classes.index(label)].curve

    def __repr__(self) -> str:
        return (
            f"ConditionalCurve({len(self.classes)} classes, {self.curve!r}, "
            f"label_entropy={self.label_entropy:.3f})"
        )


def class_conditional_curve(
    X: Any,
    y: Any,
    *,
    score_model: Any = "auto",
    noise_levels: Any = None,
    n_probes: int = 1,
    random_state: Any = 0,
    sample_weight: Any = None,
    groups: Any = None,
    latent_shape: Any = None,
    with_rate: bool = True,
    bracket: bool = True,
    unconditional: bool = True,
    validity: Validity | None = None,
    verbose: bool = False,
) -> ConditionalCurve:
    """Curve of every class, their average, and the information that the label carries.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
        Labels: numbers or text.
    score_model : {"auto", "gaussian", "mixture", "kernel", "network"}, recipe or mapping
        A family is fitted to each class by itself, cross-fitted. A mapping from label to score
        model takes these as exact; the unconditional curve is then that of "auto".
    noise_levels : array-like of shape (T,), default=None
        Common to all classes, in units of X. None: the default grid of all rows.
    n_probes, random_state
        As in `FIRateEstimator`; every class draws its own noise.
    sample_weight : array-like of shape (n_samples,), default=None
    groups : array-like of shape (n_samples,), default=None
        Independent groups of rows. Where a group has rows in several classes their errors are
        correlated, and the part of the variance within classes is multiplied by the most classes
        that any group is in, which is an upper bound.
    latent_shape : tuple of int, default=None
        (C, H, W) of one row where X is two-dimensional.
    with_rate, bracket : bool
        Whether R and the upper bounds are wanted.
    unconditional : bool
        Whether the curve without labels is wanted, and with it the label's information.
    validity : Validity, default=None
    verbose : bool

    Returns
    -------
    ConditionalCurve
        In X's library, device and dtype.

    Raises
    ------
    TypeError
        A single score model, which cannot be that of every class.
    ValueError
        y missing, of another length, with NaN or of mixed types; a class with fewer than
        `MIN_CLASS_ROWS` distinct rows or groups (two where its score model is given); a class
        without a model; and what the arguments of `FIRateEstimator` are refused for.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.conditional import class_conditional_curve
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 300)
    >>> X = rng.normal(size=(600, 2)) + np.outer(y, [8.0, 0.0])
    >>> found = class_conditional_curve(X, y, score_model="gaussian", noise_levels=[0.5, 1.0])
    >>> bool(np.all(found.curve.fisher_information > found.unconditional.fisher_information))
    True
    """
    rows, own_shape = flatten_latents(X, min_samples=2)
    shape = own_shape or latent_shape
    if shape is not None:
        shape = check_latent_shape(shape, rows.shape[1])
    _check_model(score_model)
    xp = namespace(rows)
    data = xp.astype(rows, xp.float64)
    N = data.shape[0]
    weights, codes = as_row_weights(sample_weight, N), as_groups(groups, N)
    parts = _by_class(data, y, weights, codes)
    labels = tuple(part.label for part in parts)
    given = isinstance(score_model, Mapping)
    missing = [label for label in labels if given and label not in score_model]
    if missing:
        raise ValueError(
            f"score_model has no model for class {missing[0]!r}: it has models for "
            f"{_names(tuple(score_model))}."
        )
    samples = [part.sample(2 if given else MIN_CLASS_ROWS) for part in parts]
    seed = seed_of(random_state)
    whole = make_sample(data, weights, codes)
    if noise_levels is None:
        levels = default_noise_levels(whole.X, sample_weight=whole.weights)
    else:
        levels = check_noise_levels(noise_levels, data)
    options: dict[str, Any] = {
        "n_probes": _probes(n_probes),
        "with_rate": with_rate,
        "bracket": bracket,
        "validity": validity,
    }
    fitted: dict[str, Any] = {"latent_shape": shape, "verbose": verbose}
    fits = []
    for c, (label, sample) in enumerate(zip(labels, samples, strict=True)):
        if given:
            model = as_score_model(score_model[label], data.shape[1])
            fits.append(
                curve_of_models(
                    sample,
                    levels,
                    [model] * levels.shape[0],
                    names=[model.name] * levels.shape[0],
                    one_step=False,
                    seed=_seed(seed, c),
                    **options,
                )
            )
        else:
            fits.append(
                cross_fitted_curve(
                    sample,
                    levels,
                    score_model,
                    seed=_seed(seed, c),
                    **options,
                    **fitted,
                )
            )
    shares, covariance, spread = _shares(parts, samples, weights, codes)
    curve = pool_curves(
        [fit.curve for fit in fits],
        shares,
        covariance,
        labels=labels,
        spread=spread,
        n_units=_units(whole),
        with_rate=with_rate,
        bracketed=bracket,
        validity=validity,
    )
    alone = None
    if unconditional:
        family = "auto" if given else score_model
        alone = cross_fitted_curve(whole, levels, family, seed=seed, **options, **fitted).curve
    return conditional_like(_record(labels, shares, covariance, curve, alone, fits), rows)


def _seed(seed: int, which: int) -> int:
    """The seed of a class: errors of two classes are independent only if their noise is."""
    return int(integers(seed, (_CLASSES,), slice(which, which + 1), 1, 2**31 - 1)[0, 0])


def curve_of_classes(
    found: ConditionalCurve,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    n_probes: int = 1,
    random_state: Any = 0,
    with_rate: bool = True,
) -> InformationCurve:
    """Average over classes of new rows' curves under the fitted models, without upper bounds.

    Parameters
    ----------
    found : ConditionalCurve
        Its models, one_step corrections and noise levels are used; the shares are those of `y`.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
        Labels, all of which `found` knows.
    sample_weight, n_probes, random_state, with_rate
        As in `class_conditional_curve`.

    Returns
    -------
    InformationCurve
        In float64.

    Raises
    ------
    ValueError
        A class that was not fitted or that has a single row here, another number of features, or
        labels that `class_conditional_curve` refuses.
    """
    rows, _ = flatten_latents(X, min_samples=2)
    n = found.curve.n_features
    if rows.shape[1] != n:
        raise ValueError(
            f"X has {rows.shape[1]} features, but the classes were fitted on {n}: pass rows of the "
            f"same space."
        )
    xp = namespace(rows)
    data = xp.astype(rows, xp.float64)
    weights = as_row_weights(sample_weight, data.shape[0])
    parts = _by_class(data, y, weights, None)
    for part in parts:
        if part.label not in found.classes:
            raise ValueError(
                f"y holds the class {part.label!r}, which was not fitted: the classes are "
                f"{_names(found.classes)}. Leave its rows out, or fit on data that has it."
            )
    samples = [part.sample(2) for part in parts]
    seed = seed_of(random_state)
    curves = []
    for c, (part, sample) in enumerate(zip(parts, samples, strict=True)):
        fit = found.fits[found.classes.index(part.label)]
        curves.append(
            curve_of_models(
                sample,
                like(fit.curve.noise_levels, data),
                fit.models,
                names=fit.curve.score_models,
                one_step=fit.one_step,
                n_probes=_probes(n_probes),
                seed=_seed(seed, c),
                with_rate=with_rate,
                bracket=False,
            ).curve
        )
    shares, covariance, spread = _shares(parts, samples, weights, None)
    return pool_curves(
        curves,
        shares,
        covariance,
        labels=[part.label for part in parts],
        spread=spread,
        n_units=sum(_units(sample) for sample in samples),
        with_rate=with_rate,
        bracketed=False,
    )


# -- input -------------------------------------------------------------------------------------


def _check_model(score_model: Any) -> None:
    if isinstance(score_model, str):
        if score_model not in FAMILIES:
            raise ValueError(
                f"score_model is {score_model!r}: choose one of {', '.join(FAMILIES)}, or pass a "
                f"mapping from label to score model."
            )
    elif isinstance(score_model, type) or not (
        isinstance(score_model, Mapping) or getattr(score_model, "fits_a_sample", False)
    ):
        kind = score_model if isinstance(score_model, type) else type(score_model)
        raise TypeError(
            f"score_model is {kind.__name__}, at best the score of one law, but every class has "
            f"its own: pass a mapping from label to score model, or the name of a family that is "
            f"fitted to each class."
        )


def _probes(n_probes: Any) -> int:
    if not isinstance(n_probes, int) or isinstance(n_probes, bool) or n_probes < 1:
        raise ValueError(f"n_probes is {n_probes!r}: pass the number of probes per row, 1 or more.")
    return n_probes


def _labels(y: Any, n_rows: int) -> tuple[tuple[Any, ...], Any]:
    """Sorted labels, and the place of each row's label among them."""
    from sklearn.preprocessing import LabelEncoder

    if y is None:
        raise ValueError("y is None: class-conditional curves need one label per row of X.")
    values = to_numpy(y)
    if values.shape != (n_rows,):
        raise ValueError(
            f"y has shape {values.shape}, but X has {n_rows} rows: pass one label per row."
        )
    if any(label is None or label != label for label in values.tolist()):
        raise ValueError(
            "y holds NaN: a row without a label belongs to no class, leave it out or give it a "
            "label of its own."
        )
    encoder = LabelEncoder()
    try:
        codes = encoder.fit_transform(values)
    except TypeError as error:
        raise ValueError(
            f"y holds labels of several types ({error}): pass numbers only or text only."
        ) from error
    return tuple(encoder.classes_.tolist()), codes


@dataclass(frozen=True, eq=False)
class _Class:
    """The rows of one class: its label, their weights and the codes of their groups."""

    label: Any
    index: Any
    rows: Array
    weights: Any
    groups: Any

    def count(self) -> tuple[int, str]:
        """Distinct rows, or groups, of positive weight."""
        weights = self.index * 0.0 + 1 if self.weights is None else self.weights
        if self.groups is not None:
            size = int(self.groups.max()) + 1
            return int((sum_by_code(weights, self.groups, size) > 0).sum()), "independent groups"
        first, place = distinct_rows(self.rows)
        return int((sum_by_code(weights, place, len(first)) > 0).sum()), "distinct rows"

    def sample(self, least: int) -> Sample:
        """The merged rows, refused where they are too few."""
        found, what = self.count()
        if found < least:
            raise ValueError(
                f"class {self.label!r} has {found} {what} of positive weight, but needs {least}: "
                f"leave the class out, merge it with another one, or pass more rows of it."
            )
        return make_sample(self.rows, self.weights, self.groups)


def _by_class(data: Array, y: Any, weights: Any, groups: Any) -> list[_Class]:
    """Rows of every class that has weight, by label."""
    labels, codes = _labels(y, data.shape[0])
    found = []
    for c, label in enumerate(labels):
        index = sorted_index((codes == c).nonzero()[0])
        own = None if weights is None else weights[index]
        if own is not None and not (own > 0).any():
            continue
        rows = take_rows(data, index)
        found.append(_Class(label, index, rows, own, None if groups is None else groups[index]))
    return [
        part if part.groups is None else replace(part, groups=recode(part.groups)) for part in found
    ]


def _units_of(sample: Sample) -> float:
    if sample.groups is not None:
        return float(sample.groups.max()) + 1
    return float(sample.X.shape[0])


def _units(sample: Sample) -> float:
    """Effective number of independent rows or groups."""
    if sample.groups is not None or sample.weights is None:
        return _units_of(sample)
    xp = namespace(sample.X)
    return float(xp.sum(sample.weights)) ** 2 / float(xp.sum(sample.weights**2))


def _shares(
    parts: Sequence[_Class], samples: Sequence[Sample], weights: Any, groups: Any
) -> tuple[Array, Array, int]:
    """Shares of the classes, the covariance of their errors, and most classes of any one group."""
    X = samples[0].X
    xp = namespace(X)
    K = len(parts)
    eye = xp.eye(K, dtype=X.dtype, device=device(X))
    if groups is None:
        # merged rows: a repeated one is no independent draw of a label
        members = [xp.broadcast_to(eye[c, :], (s.X.shape[0], K)) for c, s in enumerate(samples)]
        masses = []
        for part, sample in zip(parts, samples, strict=True):
            total = float(len(part.index) if weights is None else part.weights.sum())
            own = sample.X[:, 0] * 0 + 1 if sample.weights is None else sample.weights
            masses.append(own * (total / float(xp.sum(own))))
        means, covariance = pooled_means(xp.concat(members), weights=xp.concat(masses))
        return means, covariance, 1
    members = [xp.broadcast_to(eye[c, :], (len(part.index), K)) for c, part in enumerate(parts)]
    order = [int(i) for part in parts for i in part.index]
    means, covariance = pooled_means(
        xp.concat(members),
        weights=None if weights is None else weights[order],
        groups=recode(groups[order]),
    )
    classes_of: dict[int, int] = {}
    for part in parts:
        for group in set(groups[part.index].tolist()):
            classes_of[group] = classes_of.get(group, 0) + 1
    return means, covariance, max(classes_of.values())


def _names(labels: Sequence[Any]) -> str:
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return ", ".join(repr(label) for label in labels[:_NAMED]) + more


# -- averages ----------------------------------------------------------------------------------


def pool_curves(
    curves: Sequence[InformationCurve],
    shares: Array,
    shares_covariance: Array,
    *,
    labels: Sequence[Any] = (),
    spread: int = 1,
    n_units: float = math.inf,
    with_rate: bool = True,
    bracketed: bool = True,
    validity: Validity | None = None,
) -> InformationCurve:
    """Average of curves at common noise levels.

    Parameters
    ----------
    curves : sequence of K InformationCurve
    shares, shares_covariance : array of shape (K,), (K, K)
        p_c and the covariance of their errors (zeros where they are known).
    labels : sequence
        How reasons call the classes.
    spread : int
        Factor on the variance within classes: the most classes that one independent unit is in.
    n_units : float
        Effective number of independent units.
    with_rate, bracketed : bool
        Whether the curves have R, and upper bounds.
    validity : Validity, optional

    Returns
    -------
    InformationCurve
        With (p_c theta_c) for every quantity theta that is linear in the forms; residuals, which
        are shares of J and of R, average with p_c J_c and p_c t^2 R_c.

    Raises
    ------
    ValueError
        Curves at different noise levels.
    """
    # a few numbers for each level, asked for one by one: on the host, whatever computed them
    reference = curves[0].noise_levels
    p, covariance = to_numpy(shares), to_numpy(shares_covariance)
    curves = [curve_like(curve, p) for curve in curves]
    first, xp = curves[0], namespace(p)
    for curve in curves:
        if curve.noise_levels.shape != first.noise_levels.shape or bool(
            xp.any(curve.noise_levels != first.noise_levels)
        ):
            raise ValueError("curves have different noise levels: measure them on one grid.")

    def stacked(name: str) -> Array:
        return xp.stack([getattr(curve, name) for curve in curves])

    def between(values: Array) -> Array:
        """Covariance of sum p_hat_c theta_c, for values (K, q)."""
        centred = values - (p @ values)[None, :]  # the shares' errors add up to zero
        return centred.T @ (covariance @ centred)

    def average(values: Array, errors: Array) -> tuple[Array, Array]:
        within = spread * ((p**2) @ errors**2)
        outer = xp.linalg.diagonal(between(values))
        return p @ values, xp.sqrt(xp.clip(within + outer, 0.0))

    table: dict[str, Any] = {}
    for name in _LINEAR:
        table[name], table[f"{name}_stderr"] = average(stacked(name), stacked(f"{name}_stderr"))
    levels = first.noise_levels.shape[0]
    bounds = xp.reshape(stacked("fisher_information_bounds"), (len(curves), 2 * levels))
    errors = xp.reshape(stacked("fisher_information_bounds_stderr"), (len(curves), 2 * levels))
    value, error = average(bounds, errors)
    table["fisher_information_bounds"] = xp.reshape(value, (levels, 2))
    table["fisher_information_bounds_stderr"] = xp.reshape(error, (levels, 2))
    penalty = stacked("complexity_penalty")
    joint = [
        float(p[c]) ** 2 * curve.complexity_penalty_covariance for c, curve in enumerate(curves)
    ]
    table["complexity_penalty_covariance"] = spread * sum(joint[1:], joint[0]) + between(penalty)
    for name, base in (
        ("stein_residual", stacked("fisher_information")),
        ("consistency_residual", penalty),
    ):
        total = xp.abs(p @ base)
        ones = xp.where(total > 0, total, xp.full_like(total, math.nan))
        table[name] = (p @ (stacked(name) * xp.abs(base))) / ones
        scaled = stacked(f"{name}_stderr") * xp.abs(base)
        table[f"{name}_stderr"] = xp.sqrt(spread * ((p**2) @ scaled**2)) / ones
    tails = xp.reshape(stacked("mutual_information_bounds"), (len(curves), 2 * levels))
    table["mutual_information_bounds"] = xp.reshape(p @ tails, (levels, 2))
    viv, viv_error = average(
        xp.stack([like([curve.viv], p) for curve in curves]),
        xp.stack([like([curve.viv_stderr], p) for curve in curves]),
    )
    table["effective_sample_size"] = like(_median_by_share(curves, p), p)
    reasons = _reasons(table, curves, labels, n_units, with_rate, bracketed, validity)
    mean = [float(share) for share in p]
    pooled = InformationCurve(
        noise_levels=first.noise_levels,
        n_features=first.n_features,
        n_samples=sum(curve.n_samples for curve in curves),
        viv=float(viv[0]),
        viv_stderr=float(viv_error[0]),
        viv_bounds=(
            sum(q * curve.viv_bounds[0] for q, curve in zip(mean, curves, strict=True)),
            sum(q * curve.viv_bounds[1] for q, curve in zip(mean, curves, strict=True)),
        ),
        viv_gaussian=sum(q * curve.viv_gaussian for q, curve in zip(mean, curves, strict=True)),
        valid=xp.asarray([not reason for reason in reasons]),
        reasons=reasons,
        score_models=tuple(
            "per class: " + ", ".join(sorted({curve.score_models[k] for curve in curves}))
            for k in range(levels)
        ),
        forms=(f"average of {len(curves)} classes",) * levels,
        n_products=sum(curve.n_products for curve in curves),
        linearizations=tuple(
            ", ".join(sorted({curve.linearizations[k] for curve in curves})) for k in range(levels)
        ),
        **table,
    )
    return curve_like(pooled, reference)


_LINEAR = (
    "fisher_information",
    "fisher_information_rate",
    "mmse",
    "mmse_rate",
    "effective_dimension",
    "noise_gain",
    "complexity_penalty",
    "mutual_information",
    "noise_prediction_score",
    "learned_gain",
    "asymmetry",
)


def _median_by_share(curves: Sequence[InformationCurve], shares: Array) -> list[float]:
    """Per level the lower median over classes, by share, of the posterior's effective size."""
    found = []
    for k in range(curves[0].noise_levels.shape[0]):
        pairs = sorted(
            (float(curve.effective_sample_size[k]), float(share))
            for curve, share in zip(curves, shares, strict=True)
        )
        if any(math.isnan(size) for size, _ in pairs):
            found.append(math.nan)
            continue
        half, below = sum(share for _, share in pairs) / 2, 0.0
        for size, share in pairs:
            below += share
            if below >= half * (1 - 1e-12):
                found.append(size)
                break
    return found


def _reasons(
    table: Mapping[str, Array],
    curves: Sequence[InformationCurve],
    labels: Sequence[Any],
    n_units: float,
    with_rate: bool,
    bracketed: bool,
    validity: Validity | None,
) -> tuple[str, ...]:
    """Why the averages may not be believed, and which classes may not by themselves."""
    found = []
    for k in range(curves[0].noise_levels.shape[0]):
        record: dict[str, Any] = {
            name: [float(v) for v in values[k, :]]
            if name.startswith("fisher_information_bounds")
            else float(values[k])
            for name, values in table.items()
            if name not in ("complexity_penalty_covariance", "mutual_information_bounds")
        }
        reason = why_invalid(
            record, curves[0].n_features, n_units, with_rate, bracketed, validity or Validity()
        )
        alone = [label for label, curve in zip(labels, curves, strict=False) if curve.reasons[k]]
        if reason and alone:
            reason += f" (not valid by themselves: classes {_names(alone)})"
        found.append(reason)
    return tuple(found)


def _record(
    labels: tuple[Any, ...],
    shares: Array,
    covariance: Array,
    curve: InformationCurve,
    alone: InformationCurve | None,
    fits: Sequence[CurveFit],
) -> ConditionalCurve:
    xp = namespace(curve.noise_levels)
    entropy = -sum(float(p) * math.log(float(p)) for p in shares)
    J = curve.fisher_information
    nan = xp.full_like(J, math.nan)
    gap = gap_error = told = told_error = nan
    bounds = xp.stack([nan, nan], axis=1)
    if alone is not None:
        gap = J - alone.fisher_information
        gap_error = _joint(curve.fisher_information_stderr, alone.fisher_information_stderr)
        told = alone.mutual_information - curve.mutual_information
        told_error = _joint(curve.mutual_information_stderr, alone.mutual_information_stderr)
        ours, theirs = curve.mutual_information_bounds, alone.mutual_information_bounds
        ends = xp.stack([theirs[:, 0] - ours[:, 1], theirs[:, 1] - ours[:, 0]], axis=1)
        bounds = xp.clip(ends, 0.0, entropy)
    return ConditionalCurve(
        classes=labels,
        shares=shares,
        shares_covariance=covariance,
        curve=curve,
        class_valid=xp.stack([fit.curve.valid for fit in fits], axis=1),
        unconditional=alone,
        fisher_information_gap=gap,
        fisher_information_gap_stderr=gap_error,
        label_information=told,
        label_information_stderr=told_error,
        label_information_bounds=bounds,
        label_entropy=entropy,
        fits=tuple(fits),
    )


def _joint(one: Array, other: Array) -> Array:
    return namespace(one).sqrt(one**2 + other**2)


def conditional_like(record: ConditionalCurve, reference: Array) -> ConditionalCurve:
    """The record with its arrays in the library and dtype and on the device of `reference`."""
    changed: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, InformationCurve):
            changed[field.name] = curve_like(value, reference)
        elif hasattr(value, "dtype"):
            changed[field.name] = like(to_numpy(value), reference)
    fits = (replace(fit, curve=curve_like(fit.curve, reference)) for fit in record.fits)
    changed |= {"fits": tuple(fits), "class_valid": changed["class_valid"] != 0}
    return replace(record, **changed)
