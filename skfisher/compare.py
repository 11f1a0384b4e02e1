"""Several encoders of one data set, audited alike and ranked with their errors."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from array_api_compat import is_array_api_obj

from skfisher._backend.arrays import Array, take_rows, to_numpy
from skfisher._backend.draws import permutation, seed_of
from skfisher._backend.files import json_ready
from skfisher._backend.rows import sorted_index
from skfisher._backend.validation import as_sample
from skfisher.channels import flatten_latents, warn_if_unnormalized
from skfisher.criteria import resolve_criterion
from skfisher.encoders import TorchEncoder, is_torch_encoder
from skfisher.estimators import AuditReport, LatentGeometryAuditor
from skfisher.estimators._common import given_model
from skfisher.estimators._encoding import Container, encode_rows
from skfisher.ranking import Ranking, check_resamples, rank_scores

__all__ = ["EncoderComparison", "EncoderRecord", "compare_encoders"]

_ROWS, _FOLDS = 601, 5  # stream of the rows that are reconstructed; folds of the affine decoder


@dataclass(frozen=True, eq=False)
class EncoderRecord:
    """One encoder of a comparison.

    Attributes
    ----------
    name : str
    rank : int
        One more than the number of encoders that are better beyond doubt: encoders that the sample
        cannot tell apart are not ranked apart.
    rank_interval : tuple of int
        95 % interval of the rank over resamples of the rows.
    diffusability, stderr : float
        The auditor's score, higher is better, and its standard error. The error is that of the
        sample, the noise and the probes, or of the surrogate's samples; at levels that are not
        valid the score model errs as well.
    separated_from_next : bool
        Whether the score exceeds the next one's in 97.5 % of the resamples; True for the last.
    diagnosis : str
        The first finding of the audit in a few words; empty where there is none.
    latent_dimension : int
    latent_scale : float
        RMS scale of the latent as it was measured: the unit of the score's noise levels.
    valid_share : float
        Share of the latent's noise levels that are valid.
    reconstruction_error : float
        E|x - decode(encode(x))|^2 / E|x - E x|^2; NaN for cached latents without X.
    decoder : str
        What decoded: "inverse_transform", "decode", "identity", "cross-validated affine map" (with
        the error of the encoder's own decoder, where that loses more), or why nothing could.
    m, L, scale : float
        Bi-Lipschitz constants and the scale c, in z/x; NaN for cached latents, whose encoder was
        not seen.
    penalties : mapping of str to float
        The four penalties; NaN for cached latents.
    seconds : float
        Wall time of the audit.
    report : AuditReport
        With `rows`, `row_scores` and their `influence` on the score.
    """

    name: str
    rank: int
    rank_interval: tuple[int, int]
    diffusability: float
    stderr: float
    separated_from_next: bool
    diagnosis: str
    latent_dimension: int
    latent_scale: float
    valid_share: float
    reconstruction_error: float
    decoder: str
    m: float
    L: float
    scale: float
    penalties: Mapping[str, float]
    seconds: float
    report: AuditReport

    def __repr__(self) -> str:
        return (
            f"EncoderRecord({self.name!r}, rank={self.rank}, diffusability="
            f"{self.diffusability:.4f} +- {self.stderr:.4f}, reconstruction_error="
            f"{self.reconstruction_error:.3g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but what belongs to single rows and pairs, ready for JSON (NaN as None)."""
        plain = {f.name: json_ready(getattr(self, f.name)) for f in fields(self)[:-1]}
        return plain | {"report": self.report.to_dict()}


@dataclass(frozen=True, eq=False)
class EncoderComparison:
    """Encoders ranked by diffusability.

    Encoders are audited on the same rows with the same draws of noise. Rows are resampled for all
    of them together, and two encoders are told apart where one is better in 97.5 % of resamples.

    Attributes
    ----------
    records : tuple of EncoderRecord
        By decreasing score; encoders without a finite score last.
    win_probability : array of shape (E, E)
        Share of the resamples in which the record of the row scores above that of the column, in
        the order of `records`; ties count half.
    difference_stderr : array of shape (E, E)
        Standard error of the difference of two scores.
    n_samples : int or None
        Rows of X; None where only cached latents were given.
    max_points : int
        At most so many rows were audited.
    standardize : bool
    criterion : str
        Of `skfisher.criteria.CRITERIA`: what the scores are.
    score_model : str
    random_state : int
        The seed of every audit.
    """

    records: tuple[EncoderRecord, ...]
    win_probability: Array
    difference_stderr: Array
    n_samples: int | None
    max_points: int
    standardize: bool
    criterion: str
    score_model: str
    random_state: int

    def __repr__(self) -> str:
        lines = [f"EncoderComparison({len(self.records)} encoders, by decreasing diffusability)"]
        return "\n  ".join(lines + [repr(record) for record in self.records])

    def __getitem__(self, name: str) -> EncoderRecord:
        """The record of an encoder by its name."""
        for record in self.records:
            if record.name == name:
                return record
        raise KeyError(f"no encoder {name!r} among {', '.join(r.name for r in self.records)}")

    def not_separated(self) -> tuple[tuple[str, ...], ...]:
        """Runs of names, in rank order, in which no neighbours can be told apart."""
        runs: list[list[str]] = []
        fresh = True
        for record in self.records:
            if fresh:
                runs.append([])
            runs[-1].append(record.name)
            fresh = record.separated_from_next
        return tuple(tuple(run) for run in runs if len(run) > 1)

    def to_dict(self) -> dict[str, Any]:
        """All fields and curves, ready for JSON: NaN as None, infinities as "inf" and "-inf"."""
        plain: dict[str, Any] = {
            f.name: json_ready(getattr(self, f.name)) for f in fields(self) if f.name != "records"
        }
        return plain | {
            "not_separated": json_ready(self.not_separated()),
            "records": [record.to_dict() for record in self.records],
        }


def compare_encoders(
    encoders: Any,
    X: Any = None,
    y: Any = None,
    *,
    score_model: Any = "auto",
    noise_levels: Any = None,
    n_probes: int = 1,
    standardize: bool = False,
    max_points: int = 2000,
    random_state: Any = 0,
    device: Any = None,
    n_jobs: int | None = None,
    progress: Callable[[EncoderRecord], object] | None = None,
    paired: bool = True,
    n_resamples: int = 2000,
    criterion: str = "auto",
    decoders: Mapping[str, Any] | None = None,
    features: Any = None,
) -> EncoderComparison:
    """Audit several encoders on the same rows with the same seed, and rank them.

    Parameters
    ----------
    encoders : mapping of str to encoder, or list of encoders
        What `LatentGeometryAuditor` takes. An array among them is a set of cached latents, one row
        per row of X where X is given; of shape (n_samples, n_latent) or (n_samples, C, H, W). In a
        list, names are made from the class names.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W), default=None
        The data; only cached latents can do without. Torch modules are given images as they are,
        all other encoders their rows.
    y : array-like, default=None
        Passed to the encoders' `fit`.
    score_model, noise_levels, n_probes, standardize, max_points, device
        See `LatentGeometryAuditor`. `noise_levels` are those of the comparison of data and latent;
        a few make the audit much cheaper, and the score keeps the latent's own grid. They are not
        applied to cached latents.
    random_state : int, RandomState instance or None, default=0
    n_jobs : int, default=None
        Encoders audited at a time, in processes of joblib; None is 1 outside of a joblib context.
    progress : callable, default=None
        Called with the record of every encoder when it is done, in the order of `encoders`, before
        ranks are known (its rank is 0).
    paired : bool, default=True
        Whether sets of cached latents with equally many rows hold the same samples in the same
        order where no X is given. False resamples the rows of each set by themselves.
    n_resamples : int, default=2000
        Resamples of the rows behind rank intervals and win probabilities.
    criterion, features
        See `LatentGeometryAuditor`: by default "surrogate" where features are given, else
        "viv"; one for all encoders.
    decoders : mapping of str to decoder, default=None
        By name of the encoder, where it has none of its own or another is meant.

    Returns
    -------
    EncoderComparison

    Raises
    ------
    TypeError
        `encoders` that is neither a mapping nor a list; an encoder that cannot be called.
    ValueError
        No encoder; fewer than 40 resamples; an encoder without X; cached latents that do not match
        X; a decoder of no encoder; and what `LatentGeometryAuditor.fit` refuses, with the name of
        the encoder.

    Warns
    -----
    UnnormalizedLatentsWarning
        Cached latents of shape (n_samples, C, H, W) whose channels differ in scale or are dead,
        without `standardize`; for a given score model, any that are not normalised.

    Notes
    -----
    The score is blind to lost information: read it beside the reconstruction error. Which score
    predicts generation was measured ("The evidence" in the documentation). The error is the share
    of the variance of X that is lost by the encoder's `inverse_transform` (or `decode`), on rows
    that the encoder may have been fitted on. Where it has none, or one that loses more, it is the
    share lost by the best affine map from the latent to X, on rows that the map was not fitted on.
    The framework is that of Gu et al., arXiv 2604.02751.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from skfisher import compare_encoders
    >>> X = np.random.default_rng(0).normal(size=(300, 4)) * [3.0, 2.0, 1.0, 0.1]
    >>> encoders = {"plain": PCA(3), "whitened": PCA(3, whiten=True)}
    >>> found = compare_encoders(encoders, X, score_model="gaussian")
    >>> [record.name for record in found.records]
    ['plain', 'whitened']
    >>> found.records[0].separated_from_next
    True
    """
    from joblib import Parallel, delayed

    check_resamples(n_resamples)
    named = _named(encoders)
    if getattr(X, "ndim", 2) > 2:
        X, shape = flatten_latents(X, min_samples=2)
        named = {name: _of_images(encoder, shape) for name, encoder in named.items()}
    n_samples = None if X is None else as_sample(X, min_samples=2).shape[0]
    for name, encoder in named.items():
        _check_rows(name, encoder, n_samples)
        if _is_latents(encoder) and len(encoder.shape) > 2 and not standardize:
            # the score is taken on the latents' own scale, a given model's on that of its data
            scale_free = not given_model(score_model)
            warn_if_unnormalized(encoder, scale_free=scale_free, stacklevel=3)
    seed = seed_of(random_state)
    settings: dict[str, Any] = {
        "score_model": score_model,
        "noise_levels": noise_levels,
        "n_probes": n_probes,
        "standardize": standardize,
        "max_points": max_points,
        "random_state": seed,
        "device": device,
        "criterion": resolve_criterion(criterion, features=features),
        "features": features,
    }
    unknown = sorted(set(decoders or {}) - set(named))
    if unknown:
        raise ValueError(
            f"decoders names {', '.join(unknown)}, which no encoder is called: the names are "
            f"{', '.join(named)}."
        )
    # a generator, so that progress is told as it is made
    audits = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_audit)(name, encoder, X, y, settings | {"decoder": (decoders or {}).get(name)})
        for name, encoder in named.items()
    )
    records = []
    for record in audits:
        records.append(record)
        if progress is not None:
            progress(record)
    ranked, found = _ranked(records, paired=paired, n_resamples=n_resamples, seed=seed)
    return EncoderComparison(
        records=ranked,
        win_probability=found.win_probability,
        difference_stderr=found.difference_stderr,
        n_samples=n_samples,
        max_points=int(max_points),
        standardize=bool(standardize),
        criterion=settings["criterion"],
        score_model=score_model if isinstance(score_model, str) else type(score_model).__name__,
        random_state=seed,
    )


def _is_latents(encoder: Any) -> bool:
    return is_array_api_obj(encoder) or (
        hasattr(encoder, "__array__") and hasattr(encoder, "shape")
    )


def _of_images(encoder: Any, shape: tuple[int, ...]) -> Any:
    """A torch encoder that is given rows of X as the images that they were."""
    if is_torch_encoder(encoder):
        return TorchEncoder(encoder, input_shape=shape)
    if isinstance(encoder, TorchEncoder) and encoder.input_shape is None:
        return TorchEncoder(**(encoder.get_params(deep=False) | {"input_shape": shape}))
    return encoder


def _named(encoders: Any) -> dict[str, Any]:
    """Encoders by name."""
    if isinstance(encoders, Mapping):
        named = {str(name): encoder for name, encoder in encoders.items()}
    elif isinstance(encoders, Sequence) and not isinstance(encoders, str):
        bare = [_class_name(encoder) for encoder in encoders]
        total, seen = Counter(bare), Counter[str]()
        named = {}
        for name, encoder in zip(bare, encoders, strict=True):
            seen[name] += 1
            named[name if total[name] == 1 else f"{name}-{seen[name]}"] = encoder
    else:
        raise TypeError(
            f"encoders is a {type(encoders).__name__}: pass a dictionary of names and encoders, or "
            f"a list of encoders."
        )
    if not named:
        raise ValueError("encoders is empty: pass at least one encoder.")
    return named


def _class_name(encoder: Any) -> str:
    if encoder is None:
        return "identity"
    return "latents" if _is_latents(encoder) else type(encoder).__name__


def _check_rows(name: str, encoder: Any, n_samples: int | None) -> None:
    if not _is_latents(encoder):
        if n_samples is None:
            raise ValueError(
                f"X is None, but encoders[{name!r}] is a {type(encoder).__name__}: pass the data "
                f"X, or arrays of cached latents only."
            )
    elif n_samples is not None and encoder.shape[:1] != (n_samples,):
        raise ValueError(
            f"encoders[{name!r}] holds cached latents of shape {tuple(encoder.shape)}, but X has "
            f"{n_samples} rows: pass one latent per row of X, or X=None."
        )


def _audit(name: str, encoder: Any, X: Any, y: Any, settings: dict[str, Any]) -> EncoderRecord:
    """Record of one encoder, without its rank."""
    start = time.perf_counter()
    cached = _is_latents(encoder)
    if cached and len(encoder.shape) > 2:
        encoder, shape = flatten_latents(encoder, name=f"encoders[{name!r}]")
        settings = settings | {"latent_shape": shape}
    # levels in units of X mean nothing where the latents themselves are the data
    audit = LatentGeometryAuditor(
        None if cached else encoder, **(settings | {"noise_levels": None} if cached else settings)
    )
    try:
        audit.fit(encoder if cached else X, None if cached else y)
        error, decoder = _reconstruction(audit, encoder if cached else None, X)
    except (TypeError, ValueError) as wrong:
        raise type(wrong)(f"encoders[{name!r}]: {wrong}") from wrong
    report: AuditReport = audit.report_
    curve = report.latent_curve
    geometry = {f: math.nan if cached else float(getattr(report.penalties, f)) for f in _PENALTIES}
    m, L = (math.nan, math.nan) if cached else audit.bi_lipschitz_
    return EncoderRecord(
        name=name,
        rank=0,
        rank_interval=(0, 0),
        diffusability=report.diffusability,
        stderr=report.diffusability_stderr,
        separated_from_next=False,
        diagnosis=report.diagnosis.headline,
        latent_dimension=curve.n_features,
        latent_scale=float(curve.noise_levels[0]) / 0.05,  # where the default grid starts
        valid_share=curve.reasons.count("") / len(curve.reasons),
        reconstruction_error=error,
        decoder=decoder,
        m=m,
        L=L,
        scale=math.nan if cached else report.scale.c,
        penalties=geometry,
        seconds=time.perf_counter() - start,
        report=report,
    )


_PENALTIES = (
    "dimensional_compression",
    "tangential_distortion",
    "encoder_curvature",
    "data_curvature",
)


def _reconstruction(audit: Any, latents: Any, X: Any) -> tuple[float, str]:
    """Share of the variance of X that does not come back, and by which decoder."""
    if X is None:
        return math.nan, "none: no X"
    container = Container.of(X)
    X = as_sample(X)
    picked = permutation(audit.report_.random_state, (_ROWS,), X.shape[0])[: audit.max_points]
    index = sorted_index(picked)
    X = take_rows(X, index)
    if latents is not None:
        return _affine_error(take_rows(latents, index), X, audit.report_.random_state)
    if audit.encoder_ is None:
        return 0.0, "identity"
    Z = encode_rows(audit.encoder_, X, container)
    error, how = _affine_error(Z, X, audit.report_.random_state)
    for decoder in ("inverse_transform", "decode"):
        if hasattr(audit.encoder_, decoder):
            back = to_numpy(getattr(audit.encoder_, decoder)(Z))
            if back.shape != X.shape:
                return error, f"{how} ({decoder} does not return the shape of X)"
            own = _share_lost(X, back)
            # what a poor decoder loses is not lost by the encoder
            return (error, f"{how} ({decoder}: {own:.3g})") if error < own else (own, decoder)
    return error, how


def _affine_error(Z: Array, X: Array, seed: int) -> tuple[float, str]:
    """Of the best affine map from Z to X, on rows that it was not fitted on."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if X.shape[0] < 2 * _FOLDS:
        return math.nan, f"none: fewer than {2 * _FOLDS} rows"
    # the smallest is least squares but for directions that vanish
    affine = make_pipeline(StandardScaler(), RidgeCV(alphas=[10.0**k for k in range(-9, 5, 2)]))
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    target = to_numpy(X)
    back = cross_val_predict(affine, to_numpy(Z), target, cv=folds)
    return _share_lost(target, back), "cross-validated affine map"


def _share_lost(X: Array, back: Array) -> float:
    X, back = to_numpy(X), to_numpy(back)
    return float(((X - back) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum())


def _ranked(
    records: Sequence[EncoderRecord], *, paired: bool, n_resamples: int, seed: int
) -> tuple[tuple[EncoderRecord, ...], Ranking]:
    """Records by decreasing score with their ranks, and the ranking in that order."""
    order = sorted(
        records,
        key=lambda r: -r.diffusability if math.isfinite(r.diffusability) else math.inf,
    )
    reports = [record.report for record in order]
    found = rank_scores(
        [record.diffusability for record in order],
        [report.row_scores for report in reports],
        weights=[report.row_weights for report in reports],
        stderrs=[record.stderr for record in order],
        own_stderrs=[report.own_stderr for report in reports],
        samples=[
            (report.n_samples, report.n_rows) if paired else i for i, report in enumerate(reports)
        ],
        n_resamples=n_resamples,
        random_state=seed,
    )
    last = len(order) - 1
    return tuple(
        replace(
            record,
            rank=found.ranks[k],
            rank_interval=found.rank_intervals[k],
            separated_from_next=k == last or found.separated(k, k + 1),
        )
        for k, record in enumerate(order)
    ), found
