"""Unbiased forms of J and R, row by row, and their combination.

With Y = X + sigma eps, a score model s_theta with Jacobian H_theta, r = X - (Y + t s_theta) and
every expectation over data and noise, the forms used are, in units that make them dimensionless
(j = tJ, rho = t^2 R, rate = n - 2j + rho):

============ ========================================== ===========================================
name         row                                        mean
============ ========================================== ===========================================
trace        -t tr H_theta                              j if s_theta = s
norm         t |s_theta|^2                              j if s_theta = s
cross        -sigma <s_theta, eps>                      the same as trace, for any s_theta
implicit     2 trace - norm                             j - t E|s_theta - s|^2, for any s_theta
denoising    n - |eps + sigma s_theta|^2                the same as implicit, for any s_theta
plug-in rho  t^2 |H_theta|_F^2                          rho if H_theta = H
path         -t^2 d(implicit J)/dt along x + sigma eps  rho up to second order in the model's error
path         (1/2) sigma du/dsigma - u, see below       the same, for models without divergence
residual     2 r^T (I + tH) r / t - |I + tH|_F^2        rate up to second order in the model's error
============ ========================================== ===========================================

The first three err by the first power of s_theta - s; the others only by the second, so that a
model fitted on other rows may stand in them and the rows' scatter is the whole error (data, noise
and probe variance). For the implicit and denoising forms see Hyvarinen (2005) and Vincent (2011);
the residual form follows from E[r r^T | Y] = C + (D - D_theta)(D - D_theta)^T and
2<A, C> - |A|^2 = |C|^2 - |A - C|^2; the path form from R = -dJ/dt (de Bruijn).

Where the divergence is not known the denoising form takes the place of the implicit one. With
|eps + sigma s_theta|^2 = |eps|^2 + u, u = 2 sigma <s_theta, eps> + t |s_theta|^2, it is
tJ = n - |eps|^2 - u, and n - |eps|^2 has mean zero at every sigma, so that -t^2 d(-u/t)/dt is left,
at the price of two evaluations. A model taken as exact does without: J and R come from the
trace and the norm of one product at each noisy point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from array_api_compat import device

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.draws import signs
from skfisher.scores.contract import LocalMoments
from skfisher.traces import pooled, row_traces

__all__ = [
    "ASYMMETRY_ROWS",
    "EXACT_LIMIT",
    "FORMS",
    "Asymmetry",
    "Combination",
    "FormRows",
    "asymmetry",
    "combine",
    "form_rows",
    "lower_bound",
    "noise_prediction_scores",
    "stderr_of",
    "value_of",
]

FORMS = (
    "trace",
    "norm",
    "cross",
    "denoising",
    "plug-in rho",
    "plug-in rate",
    "path",
    "residual",
)
"""Columns of `FormRows.values`; "implicit" is 2 trace - norm."""

EXACT_LIMIT = 64
"""Largest dimension in which exact models are asked for |H|_F^2 itself, not for probes of it.

A model for which that is dearer sets a limit of its own as `exact_norm_limit`."""

PATH_STEP = 1e-3
"""Least relative step in sigma of the path derivative: bias of order 1e-6, rounding 1e-10.

A model that computes in shorter numbers of machine epsilon eps takes eps^(1/3), at most a tenth."""

ASYMMETRY_ROWS = 128
"""Rows on which the asymmetry of a model's Jacobian is measured."""

_LEAST = 1e-50  # of rho and rate, where only their relative errors matter

_TRACE, _NORM, _CROSS, _DENOISING, _RHO, _RATE, _PATH, _RESIDUAL = range(len(FORMS))


@dataclass(frozen=True, eq=False)
class FormRows:
    """The forms of one noise level, a row of them for each row of X.

    Attributes
    ----------
    values : array of shape (m, 8)
        Columns in the order of `FORMS`; NaN in a column that was not asked for.
    n_products : int
        Jacobian products spent; exact traces and norms count as n of them.
    """

    values: Array
    n_products: int


@dataclass(frozen=True, eq=False)
class Combination:
    """J and R of one level as linear functions of the means of the forms.

    Attributes
    ----------
    j, rho : array of shape (8,)
        Coefficients of tJ and t^2 R.
    rho_constant : float
        What is added to rho.
    text : str
        The share of each form in j.
    n_multiples : int
        The most multiples that were fitted for one of them.
    """

    j: Array
    rho: Array
    rho_constant: float
    text: str
    n_multiples: int


def form_rows(
    model: Any,
    x: Array,
    eps: Array,
    sigma: float,
    *,
    n_probes: int = 1,
    seed: int = 0,
    stream: tuple[int, ...] = (),
    start: int = 0,
    one_step: bool = True,
    with_rate: bool = True,
) -> FormRows:
    """Every form at x +- sigma eps, averaged over the signs and over the draws of eps.

    The pair of signs removes the part of each form that is odd in the noise, which dominates the
    scatter of the residual and the path forms.

    Parameters
    ----------
    model : score model
        With `divergence` and `moments` where it is exact; with `jvp` otherwise.
    x : array of shape (m, n)
        Clean points.
    eps : array of shape (m, p, n)
        p standard normal draws for each point.
    sigma : float
    n_probes, seed, stream, start
        Probes, for models that are not exact or have more than `EXACT_LIMIT` features; `start` is
        the number of the first row.
    one_step : bool
        Compute the residual form, which costs exact models nothing and others one product, and
        for others the path form, which costs them two evaluations.
    with_rate : bool
        False skips everything that only R needs.
    """
    xp = namespace(x)
    m, n = x.shape
    t = sigma * sigma
    draws = [sign * eps[:, i, :] for i in range(eps.shape[1]) for sign in (1.0, -1.0)]
    noise = xp.concat(draws, axis=0)
    clean = xp.concat([x] * len(draws), axis=0)
    y = clean + sigma * noise
    exact = hasattr(model, "divergence")
    absent = xp.full_like(y[:, 0], math.nan)
    plug_rho = plug_rate = path = residual = absent
    if exact and not with_rate:
        s, tr_h = model.divergence(y, sigma)
        products = y.shape[0] * n
    else:
        local, products = _moments(
            model,
            y,
            sigma,
            clean if one_step and with_rate else None,
            n_points=m,
            n_probes=n_probes,
            seed=seed,
            stream=stream,
            start=start,
        )
        s, tr_h = local.score, local.hessian_trace
        plug_rho = t * t * local.hessian_squared_norm
        plug_rate = local.denoiser_squared_norm
        if local.residual_form is not None:
            residual = 2 * local.residual_form / t - plug_rate
    cross = -sigma * xp.vecdot(s, noise)
    norm = t * xp.vecdot(s, s)
    if with_rate and exact:
        lower, upper = sigma * (1 - PATH_STEP), sigma * (1 + PATH_STEP)
        fall = _implicit(model, clean + lower * noise, lower)
        fall = fall - _implicit(model, clean + upper * noise, upper)
        path = t * t * fall / (upper**2 - lower**2)
    elif with_rate and one_step:
        step = _path_step(model, y)
        rise = _excess(model, clean, noise, sigma * (1 + step))
        rise = rise - _excess(model, clean, noise, sigma * (1 - step))
        path = rise / (4 * step) - (norm - 2 * cross)
    values = xp.stack(
        [
            -t * tr_h,
            norm,
            cross,
            n - xp.vecdot(noise, noise) + 2 * cross - norm,  # n - |eps + sigma s|^2
            plug_rho,
            plug_rate,
            path,
            residual,
        ],
        axis=1,
    )
    values = xp.mean(xp.reshape(values, (len(draws), m, len(FORMS))), axis=0)
    return FormRows(values, products)


def _implicit(model: Any, y: Array, sigma: float) -> Array:
    """Row of the implicit form of J."""
    s, tr_h = model.divergence(y, sigma)
    return -namespace(y).vecdot(s, s) - 2 * tr_h


def _excess(model: Any, clean: Array, noise: Array, sigma: float) -> Array:
    """|eps + sigma s|^2 - |eps|^2 at clean + sigma eps."""
    move = sigma * model(clean + sigma * noise, sigma)
    return namespace(clean).vecdot(move, move + 2 * noise)


def _path_step(model: Any, y: Array) -> float:
    """Relative step in sigma at which the path derivative of this model errs least."""
    eps = getattr(model, "precision", None) or float(namespace(y).finfo(y.dtype).eps)
    return float(min(max(PATH_STEP, eps ** (1 / 3)), 0.1))


def _moments(
    model: Any,
    y: Array,
    sigma: float,
    clean: Array | None,
    *,
    n_points: int,
    n_probes: int,
    seed: int,
    stream: tuple[int, ...],
    start: int,
) -> tuple[LocalMoments, int]:
    """Local moments, exactly where the model can, by probes otherwise; and products spent.

    `y` comes in blocks of `n_points` rows, one for each draw of the noise; each block has probes
    of its own, so that a row's probes do not depend on how many rows a call holds.
    """
    xp = namespace(y)
    m, n = y.shape
    if hasattr(model, "moments") and n <= getattr(model, "exact_norm_limit", EXACT_LIMIT):
        return model.moments(y, sigma, clean=clean), m * n
    parts = []
    for d in range(m // n_points):
        block = slice(d * n_points, (d + 1) * n_points)
        parts.append(
            _probed_moments(
                model,
                y[block, :],
                sigma,
                None if clean is None else clean[block, :],
                n_probes=n_probes,
                seed=seed,
                stream=(*stream, d),
                start=start,
            )
        )
    local = LocalMoments(
        **{
            name: None
            if getattr(parts[0][0], name) is None
            else xp.concat([getattr(part, name) for part, _ in parts], axis=0)
            for name in (field.name for field in fields(LocalMoments))
        }
    )
    return local, sum(products for _, products in parts)


def _probed_moments(
    model: Any,
    y: Array,
    sigma: float,
    clean: Array | None,
    *,
    n_probes: int,
    seed: int,
    stream: tuple[int, ...],
    start: int,
) -> tuple[LocalMoments, int]:
    xp = namespace(y)
    m, n = y.shape
    t = sigma * sigma
    score: Array = None
    known = None
    if hasattr(model, "divergence"):
        score, tr_h = model.divergence(y, sigma)
        known = n + t * tr_h

    def denoiser_product(v: Array) -> Array:
        nonlocal score
        score, hv = model.jvp(y, sigma, v)
        return v + t * hv

    probed = row_traces(
        denoiser_product,
        y,
        n_probes=n_probes,
        seed=seed,
        stream=stream,
        start=start,
        known_trace=known,
    )
    products = probed.n_products
    residual = None
    if clean is not None:
        r = clean - (y + t * score)
        residual = xp.vecdot(r, denoiser_product(r))
        products += m
    # |tH|^2 = |(I + tH) - I|^2 from the same product
    return LocalMoments(
        score=score,
        hessian_trace=(probed.trace - n) / t,
        hessian_squared_norm=(probed.squared_norm - 2 * probed.trace + n) / t**2,
        denoiser_trace=probed.trace,
        denoiser_squared_norm=probed.squared_norm,
        residual_form=residual,
    ), products


@dataclass(frozen=True)
class Asymmetry:
    """Share of the antisymmetric part in the squared norm of a model's Jacobian, at one level.

    Attributes
    ----------
    share : float
        E|(H - H^T)/2|_F^2 / E|H|_F^2 in [0, 1]; the Jacobian of a score has none. NaN where the
        model offers no transposed products.
    stderr : float
    n_rows : int
    """

    share: float
    stderr: float
    n_rows: int


def asymmetry(
    model: Any,
    x: Array,
    eps: Array,
    sigma: float,
    *,
    seed: int = 0,
    stream: tuple[int, ...] = (),
    max_rows: int = ASYMMETRY_ROWS,
) -> Asymmetry:
    """Antisymmetric share of a model's Jacobian at the first rows of x + sigma eps.

    Parameters
    ----------
    model : score model
        With ``both(y, sigma, v) -> (s, H v, H^T v)``.
    x, eps : array of shape (m, n), (m, p, n)
        Clean points and draws of the noise, of which the first is used.
    sigma : float
    seed, stream : int, tuple of int
        Of the probes, one sign vector for each row.
    max_rows : int
        Two products are spent on each.

    Returns
    -------
    Asymmetry

    Notes
    -----
    For one probe E|Hv - H^T v|^2 = |H - H^T|_F^2, and E|Hv|^2 = E|H^T v|^2 = |H|_F^2, of which the
    mean is taken, so that no row's share exceeds one. The share is a ratio of means over rows,
    with a bias of order 1/m and the standard error of its linearisation.
    """
    none = Asymmetry(math.nan, math.nan, 0)
    if not hasattr(model, "both"):
        return none
    m = min(x.shape[0], max_rows)
    y = x[:m, :] + sigma * eps[:m, 0, :]
    v = signs(seed, stream, slice(0, m), x.shape[1], x)
    try:
        _, forward, transposed = model.both(y, sigma, v)
    except NotImplementedError:  # the function inside cannot be differentiated backwards
        return none
    xp = namespace(x)
    half = (forward - transposed) / 2
    part = xp.vecdot(half, half)
    whole = (xp.vecdot(forward, forward) + xp.vecdot(transposed, transposed)) / 2
    total = float(xp.mean(whole))
    if total == 0.0:
        return Asymmetry(0.0, 0.0, m)
    share = float(xp.mean(part)) / total
    _, stderr = pooled((part - share * whole) / total)
    return Asymmetry(share, stderr, m)


def lower_bound(means: Array, cov: Array, n_rows: float) -> tuple[float, float, Array]:
    """Lower bound tJ - t E|s_theta - s|^2 from its implicit and its denoising form.

    Parameters
    ----------
    means, cov : array of shape (8,), (8, 8)
        Means of the forms and the covariance of these means.
    n_rows : float
        Effective number of independent rows.

    Returns
    -------
    value, stderr : float
    coefficients : array of shape (8,)
    """
    a, _ = _mixed(_implicit_and_denoising(cov), cov, n_rows)
    return float(value_of(a, means)), stderr_of(a, cov), a


def noise_prediction_scores(means: Array, cov: Array, n_levels: int) -> list[tuple[float, float]]:
    """The lower bound on tJ at each of several levels and its error, from its better form alone.

    Divided by n it is the noise-prediction score. Cruder than `lower_bound`, and much faster.
    """
    q = len(FORMS)
    scores = []
    for k in range(0, n_levels * q, q):
        trace, norm = float(means[k + _TRACE]), float(means[k + _NORM])
        cross = 4 * float(cov[k + _TRACE, k + _NORM])
        implicit = 4 * float(cov[k + _TRACE, k + _TRACE]) + float(cov[k + _NORM, k + _NORM]) - cross
        denoising = float(cov[k + _DENOISING, k + _DENOISING])
        value = 2 * trace - norm if implicit < denoising else float(means[k + _DENOISING])
        scores.append((value, math.sqrt(max(min(implicit, denoising), 0.0))))
    return scores


def value_of(coefficients: Array, means: Array) -> Array:
    """Linear function of means, 0-d; a form that was not computed is NaN and has coefficient 0."""
    xp = namespace(means)
    return coefficients @ xp.where(coefficients != 0, means, xp.zeros_like(means))


def stderr_of(coefficients: Array, cov: Array) -> float:
    """Standard error of a linear function of means with covariance `cov`."""
    live = coefficients != 0
    xp = namespace(cov)
    cov = xp.where(live[:, None] & live[None, :], cov, xp.zeros_like(cov))
    return math.sqrt(max(float(coefficients @ cov @ coefficients), 0.0))


def _implicit_and_denoising(cov: Array) -> list[Array]:
    eye = namespace(cov).eye(len(FORMS), dtype=cov.dtype, device=device(cov))
    return [2 * eye[_TRACE, :] - eye[_NORM, :], eye[_DENOISING, :]]


def combine(
    means: Array, cov: Array, n: int, n_rows: float, *, one_step: bool, with_rate: bool = True
) -> Combination:
    """Put the forms together by their estimated errors.

    j is one form plus multiples of differences of forms whose mean is zero; rho likewise, with one
    multiple of (rate form - n + 2j - rho form). The multiples minimise the estimated variance of
    j, and the sum of the relative variances of rho and of rate = n - 2j + rho, which thus holds to
    rounding. A ridge of one pseudo-row per multiple draws them towards the best single form.

    Parameters
    ----------
    means, cov : array of shape (8,), (8, 8)
        Means of the forms and the covariance of these means.
    n : int
        Dimension of the space.
    n_rows : float
        Effective number of independent rows.
    one_step : bool
        True for a fitted model (implicit, denoising, path and residual forms), False for a model
        taken as exact (trace, norm, cross, plug-in and path forms; where rho was probed and the
        path form, NaN, was not computed, the denoising form instead of that).
    with_rate : bool
        False leaves rho at zero.
    """
    xp = namespace(cov)
    eye = xp.eye(len(FORMS), dtype=cov.dtype, device=device(cov))
    if one_step:
        names: tuple[str, ...] = ("implicit", "denoising")
        forms = _implicit_and_denoising(cov)
        rho_forms, rate_form = [_PATH], _RESIDUAL
    else:
        names = ("trace", "norm", "cross")
        if math.isfinite(float(means[_RHO])) and not math.isfinite(float(means[_PATH])):
            names = (*names, "denoising")  # no exact trace: the noise of probes is worth replacing
        forms = [eye[FORMS.index(name), :] for name in names]
        rho_forms, rate_form = [_RHO, _PATH], _RATE
    a, shares = _mixed(forms, cov, n_rows)
    text = " + ".join(
        f"{share:.2f} {name}"
        for share, name in zip(shares, names, strict=True)
        if abs(share) >= 0.005
    )
    if not with_rate:
        return Combination(a, xp.zeros_like(a), 0.0, text, len(forms) - 1)
    # the plug-in means, positive by construction, only weigh the two relative errors
    targets = [
        (1 / max(float(means[_RHO]), _LEAST) ** 2, xp.zeros_like(a)),
        (1 / max(float(means[_RATE]), _LEAST) ** 2, -2 * a),
    ]
    rho_forms = [i for i in rho_forms if math.isfinite(float(means[i]))]
    # each start is one way to rho: a form of its own, or rate form + 2j (less the constant n)
    starts = [eye[i, :] for i in rho_forms] + [eye[rate_form, :] + 2 * a]
    base = min(starts, key=lambda b: _variance(b, cov, targets))
    directions = [form - forms[0] for form in forms[1:]]
    directions += [b - base for b in starts if b is not base]
    b, _ = _minimise(base, directions, cov, targets, n_rows)
    return Combination(a, b, -n * float(b[rate_form]), text, len(directions))


def _mixed(forms: Sequence[Array], cov: Array, n_rows: float) -> tuple[Array, list[float]]:
    """Coefficients of the mixture of `forms` of least variance, and the share of each."""
    target = [(1.0, namespace(cov).zeros_like(forms[0]))]
    variances = [_variance(form, cov, target) for form in forms]
    base = variances.index(min(variances))
    others = [i for i in range(len(forms)) if i != base]
    directions = [forms[i] - forms[base] for i in others]
    a, multiples = _minimise(forms[base], directions, cov, target, n_rows)
    shares = dict(zip(others, multiples, strict=True)) | {base: 1.0 - sum(multiples)}
    return a, [shares[i] for i in range(len(forms))]


def _variance(b: Array, cov: Array, targets: list[tuple[float, Array]]) -> float:
    return sum(scale * stderr_of(b + shift, cov) ** 2 for scale, shift in targets)


def _minimise(
    base: Array,
    directions: list[Array],
    cov: Array,
    targets: list[tuple[float, Array]],
    n_rows: float,
) -> tuple[Array, list[float]]:
    """Add multiples of `directions` to `base` for the least variance, summed over (scale, shift).

    Returns the sum and the multiples.
    """
    xp = namespace(base)
    G = xp.stack(directions, axis=1)
    used = xp.any(G != 0, axis=1) | (base != 0)
    for _, shift in targets:
        used = used | (shift != 0)
    cov = xp.where(used[:, None] & used[None, :], cov, xp.zeros_like(cov))
    K = sum(scale for scale, _ in targets) * (G.T @ cov @ G)
    g = sum(scale * (G.T @ (cov @ (base + shift))) for scale, shift in targets)
    d = xp.sqrt(xp.clip(xp.linalg.diagonal(K), 0.0))
    # forms that are one and the same for this model differ by rounding: nothing to be gained
    size = sum(scale for scale, _ in targets) * (xp.abs(G.T) @ xp.abs(cov) @ xp.abs(G))
    live = d * d > 1e-12 * xp.linalg.diagonal(size)
    d = xp.where(live, d, xp.ones_like(d))
    ridge = 1e-12 + len(directions) / n_rows
    K = K / (d[:, None] * d[None, :]) + ridge * xp.eye(
        len(directions), dtype=K.dtype, device=device(K)
    )
    theta = xp.linalg.solve(K, (g / d)[:, None])[:, 0] / d
    multiples = xp.where(live, -theta, xp.zeros_like(theta))
    return base + G @ multiples, [float(value) for value in multiples]
