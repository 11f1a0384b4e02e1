"""How much each finding weighs, from the numbers of an audit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from skfisher._backend.arrays import Array, like, namespace, to_numpy
from skfisher.account import RateAccount
from skfisher.channels import ChannelReport
from skfisher.curves import InformationCurve
from skfisher.diagnosis.findings import ADVICE, REFERENCE_NOISE, SERIOUS, Diagnosis, Finding
from skfisher.geometry import FoldReport, Penalties
from skfisher.preservation import curvature_gap

__all__ = ["diagnose", "is_folded"]

_DISTORTION = 4 / 27  # of the gap per mean |log(g / c^2)|, see skfisher.preservation
_BEYOND = 2.0  # standard errors that a finding must exceed
_FOLD_NOISE = 0.02  # share of folded pairs that rounding and noise make in latents without a fold
_SLIGHT = 0.01  # weight below which it is not asked where on the noise axis a finding acts
_WORST = 5


def diagnose(
    X: Array,
    Z: Array,
    *,
    penalties: Penalties,
    channels: ChannelReport,
    scale: float,
    pushforward: Array | None = None,
    anchors: Array | None = None,
    folds: FoldReport | None = None,
    rows: Sequence[int] | None = None,
    data: InformationCurve | None = None,
    matched: InformationCurve | None = None,
) -> Diagnosis:
    """Weigh what an audit measured, and say what to change.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
    penalties : Penalties
        With its account along the noise, where one was made.
    channels : ChannelReport
        Of Z.
    scale : float
        c, in z/x.
    pushforward : array of shape (A, d, k), optional
        B = Df U at the anchors; for an affine encoder of data that fill their hull, one matrix.
    anchors : integer array of shape (A,), optional
        Their rows.
    folds : FoldReport, optional
    rows : sequence of int, optional
        What the rows of X are called in the answer; default their numbers.
    data, matched : InformationCurve, optional
        Of X, and of Z at c times its noise: where the account says nothing, the levels at which
        their MMSE rates differ most tell where the noise is that matters.

    Returns
    -------
    Diagnosis

    Notes
    -----
    Weights, per dimension k of the data at t = (0.3 RMS)^2, in [0, 1]. Compression: sum over the
    lost directions of (lambda/(lambda + t))^2. Distortion: (4/27) E mean |log(g_i/c^2)| over the
    eigenvalues of the pull-back metric, of the latent as it is or with its columns rescaled to one
    length of derivative, whichever is less; what rescaling mends is weighed as unnormalised
    channels, by (4/27) mean |log s_i^2| over the live channels with its mean taken out. Curvature:
    t (k + 2)/3 times E|II|^2 of the data, or what c^2 E|a|^2/|Bu|^4 of the encoder is above that: a
    rigid encoder of curved data keeps their curvature and adds none. Dead channels: their share.
    Folds: the share of folded neighbours, twice, since half is the most that one fold makes.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher import LatentGeometryAuditor
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> audit = LatentGeometryAuditor(lambda x: x * [1.0, 1.0, 9.0], score_model="gaussian")
    >>> audit.fit(X).report_.diagnosis.dominant.name
    'unnormalised channels'
    """
    case = _Case(X, Z, penalties, channels, scale, pushforward, anchors, folds, rows, data, matched)
    found, unknown = [], []
    for name, measure in (
        ("folded space", case.folded),
        ("dead channels", case.dead),
        ("dimensional compression", case.compressed),
        ("encoder curvature", case.bent),
        ("unnormalised channels", case.unnormalised),
        ("tangential distortion", case.distorted),
        ("data curvature", case.data_bent),
    ):
        finding = measure(name)
        if isinstance(finding, str):
            unknown.append(f"{name}: {finding}")
        else:
            found.append(finding)
    # sorted is stable: of two that weigh the same the earlier in FINDINGS comes first, and what
    # lies in the data comes after what the encoder does
    ordered = sorted(found, key=lambda f: (not f.serious, f.name == "data curvature", -f.weight))
    return Diagnosis(tuple(ordered), tuple(unknown), case.sigma)


def is_folded(folds: FoldReport) -> bool:
    """Whether more pairs lie on different sheets than rounding and noise make.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.geometry import fold_share
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> basis = np.tile(np.eye(2), (300, 1, 1))
    >>> is_folded(fold_share(X, X, basis, basis))
    False
    """
    return folds.share > _FOLD_NOISE and folds.share > _BEYOND * folds.stderr


def _or_zero(error: float) -> float:
    return error if math.isfinite(error) else 0.0


@dataclass(frozen=True, eq=False)
class _Case:
    """What is known, and one method per finding."""

    X: Array
    Z: Array
    penalties: Penalties
    channels: ChannelReport
    c: float
    B: Array | None
    anchors: Array | None
    folds: FoldReport | None
    rows: Sequence[int] | None
    data: InformationCurve | None
    matched: InformationCurve | None

    @property
    def sigma(self) -> float:
        """Noise that findings are weighed at: it is compared with the spread per own dimension."""
        k = max(self.penalties.intrinsic_dimension, 1)
        return REFERENCE_NOISE * math.sqrt(self._variance / k)

    @property
    def _variance(self) -> float:
        """Trace of the data's covariance."""
        xp = namespace(self.X)
        return float(xp.sum(xp.mean((self.X - xp.mean(self.X, axis=0)) ** 2, axis=0)))

    def folded(self, name: str) -> Finding | str:
        if self.folds is None:
            if self.B is None:
                return "no derivatives"
            return "an affine encoder folds no data that fill their affine hull"
        share, error = self.folds.share, self.folds.stderr
        if math.isnan(share):
            return self.folds.reason
        pairs = to_numpy(self.folds.pairs)
        return self._finding(
            name,
            share,
            error,
            "share of near pairs of the latent across which it is folded",
            2 * share,
            samples=[int(i) for i in pairs[:_WORST].reshape(-1)],
            evidence=f"{share:.0%} of neighbours in the latent lie on different sheets",
            beyond=is_folded(self.folds),
        )

    def dead(self, name: str) -> Finding | str:
        dead, d = self.channels.dead, self.channels.latent_shape[0]
        return self._finding(
            name,
            len(dead) / d,
            0.0,
            "share of channels that are constant, or next to it",
            len(dead) / d,
            channels=dead,
            evidence=f"{len(dead)} of {d} channels carry nothing",
        )

    def compressed(self, name: str) -> Finding | str:
        share, error = (
            self.penalties.dimensional_compression,
            self.penalties.dimensional_compression_stderr,
        )
        if math.isnan(share):
            return self.penalties.reasons.get("dimensional_compression", "not measured")
        k = self.penalties.intrinsic_dimension
        weight, kept = share, ""
        lost = self.penalties.lost_directions
        if lost is not None and lost.shape[0]:
            xp = namespace(self.X)
            along = xp.matmul(self.X - xp.mean(self.X, axis=0), xp.matrix_transpose(lost))
            variance = xp.mean(along**2, axis=0)
            p = variance / (variance + self.sigma**2)
            # directions that are lost at some points only count by how often they are
            often = min(1.0, share * k / lost.shape[0])
            # those that are not listed carry no more than the last that is
            rest = max(0.0, share * k - lost.shape[0])
            weight = (float(xp.sum(p**2)) * often + rest * float(xp.min(p)) ** 2) / k
            part = float(xp.sum(variance)) * often / self._variance
            kept = f", with {part:.1%} of its variance"
        if self.channels.dead and len(self.channels.dead) >= share * k:
            weight *= 0.9  # said by the dead channels already
        return self._finding(
            name,
            share,
            error,
            "share of the data's own directions that the latent loses",
            weight,
            evidence=f"{share * k:.3g} of the data's {k} directions are lost{kept}",
        )

    def bent(self, name: str) -> Finding | str:
        found = self.penalties
        # what the data bends by itself, and a rigid encoder keeps, is not the encoder's doing
        change, error = found.curvature_change, found.curvature_change_stderr
        if math.isnan(change):  # where the data's own is not known it is not taken off
            c = self.c if math.isfinite(self.c) and self.c > 0 else 1.0
            change = c**2 * found.encoder_curvature
            error = c**2 * found.encoder_curvature_stderr
        if math.isnan(change):
            return found.reasons.get("encoder_curvature", "not measured")
        return self._curvature(
            name,
            change,
            _or_zero(error),
            None if found.pointwise is None else found.pointwise.encoder_curvature,
            "adds a mean squared curvature of",
            self._bent_direction(),
        )

    def _bent_direction(self) -> Array | None:
        """Unit vector of the latent along which Df differs most between anchors."""
        point = self.penalties.pointwise
        if point is None or self.B is None or self.B.shape[0] < 2:
            return None
        xp, Df = namespace(self.B), self.B
        if point.basis is not None:  # in one frame for all anchors
            Df = xp.matmul(Df, xp.matrix_transpose(point.basis))
        off = Df - xp.mean(Df, axis=0)[None, :, :]
        spread = xp.mean(xp.matmul(off, xp.matrix_transpose(off)), axis=0)
        if not float(xp.max(xp.abs(spread))) > 0:
            return None
        return xp.matrix_transpose(xp.linalg.eigh(spread)[1])[-1:, :]

    def _stretched_directions(self) -> Array:
        """Unit vectors of the latent that are stretched most and least, in the mean."""
        xp = namespace(self.B)
        square = xp.mean(xp.matmul(self.B, xp.matrix_transpose(self.B)), axis=0)
        values, vectors = xp.linalg.eigh(square)
        vectors = xp.matrix_transpose(vectors)
        kept = [i for i in range(values.shape[0]) if float(values[i]) > 1e-12 * float(values[-1])]
        return xp.concat([vectors[-1:, :], vectors[kept[0] : kept[0] + 1, :]], axis=0)

    def data_bent(self, name: str) -> Finding | str:
        found = self.penalties
        if math.isnan(found.data_curvature):
            return found.reasons.get("data_curvature", "not measured")
        return self._curvature(
            name,
            found.data_curvature,
            _or_zero(found.data_curvature_stderr),
            None if found.pointwise is None else found.pointwise.data_curvature,
            "has a mean squared curvature of",
        )

    def _curvature(
        self,
        name: str,
        value: float,
        error: float,
        per_anchor: Array | None,
        verb: str,
        directions: Array | None = None,
    ) -> Finding:
        value = max(value, 0.0)
        gap = curvature_gap(
            like([self.sigma], self.X),
            intrinsic_dimension=self.penalties.intrinsic_dimension,
            data_curvature=0.0,
            latent_curvature=value,
        )
        free = self._variance * value
        subject = "the data" if name == "data curvature" else "the encoder"
        return self._finding(
            name,
            free,
            self._variance * error,
            "mean squared curvature, in squared radii of the data",
            float(gap[0]),
            samples=self._worst(per_anchor),
            directions=directions,
            evidence=f"{subject} {verb} {free:.3g} over the squared radius of the data",
        )

    def unnormalised(self, name: str) -> Finding | str:
        logs = self._log_variances()
        if len(logs) < 2:
            return "fewer than two live channels"
        mean = sum(logs.values()) / len(logs)
        spread = sum(abs(v - mean) for v in logs.values()) / len(logs)
        far = sorted(logs, key=lambda i: -abs(logs[i] - mean))
        ratio = math.exp((max(logs.values()) - min(logs.values())) / 2)
        return self._finding(
            name,
            sum((v - mean) ** 2 for v in logs.values()) / len(logs),
            0.0,
            "variance of the channels' log variances",
            _DISTORTION * spread,
            channels=[i for i in far[:_WORST] if abs(logs[i] - mean) > spread],
            evidence=f"standard deviations of the channels differ up to {ratio:.3g} times",
        )

    def distorted(self, name: str) -> Finding | str:
        if self.B is None:
            value = self.penalties.tangential_distortion
            reason = self.penalties.reasons.get("tangential_distortion", "not measured")
            return reason if math.isnan(value) else "no derivatives to weigh it by"
        xp = namespace(self.B)
        raw = self._metric_logs(self.B)
        # rows of B brought to one length: close to the best that rescaling columns of Z can do
        length = xp.sqrt(xp.mean(xp.sum(self.B**2, axis=2), axis=0))
        kept = length > 1e-6 * xp.max(length)
        factor = xp.where(kept, 1 / xp.where(kept, length, xp.ones_like(length)), 0 * length)
        whitened = self._metric_logs(self.B * factor[None, :, None])
        if raw is None or whitened is None:
            return "every direction is lost"
        least = min((raw, whitened), key=lambda found: found[1])
        values, weight, per_anchor = least
        value = self.penalties.tangential_distortion if least is raw else values
        error = self.penalties.tangential_distortion_stderr if least is raw else 0.0
        if not math.isfinite(value):
            value, error = values, 0.0
        half = float(xp.exp(xp.asarray(weight)))
        how = "" if least is raw else ", whatever the scales of the channels"
        return self._finding(
            name,
            value,
            error if math.isfinite(error) else 0.0,
            "mean squared log of the metric's eigenvalues over their mean" + how,
            _DISTORTION * weight,
            samples=self._worst(per_anchor) if per_anchor.shape[0] > 1 else (),
            directions=self._stretched_directions(),
            evidence=f"directions are stretched apart {half:.3g} times in the mean{how}",
        )

    def _log_variances(self) -> dict[int, float]:
        std = to_numpy(self.channels.std)
        return {
            i: 2 * math.log(float(std[i]))
            for i in range(std.shape[0])
            if i not in self.channels.dead and std[i] > 0
        }

    def _metric_logs(self, B: Array) -> tuple[float, float, Array] | None:
        """Mean square and mean size of log(g / c^2) over anchors, and the squares per anchor."""
        xp = namespace(B)
        s = xp.linalg.svdvals(B)
        kept = s > 1e-6 * xp.max(s)
        rank = xp.sum(xp.astype(kept, s.dtype), axis=1)
        alive = rank > 0
        if not bool(xp.any(alive)):
            return None
        count = xp.where(alive, rank, xp.ones_like(rank))
        logs = xp.where(kept, 2 * xp.log(xp.where(kept, s, xp.ones_like(s))), xp.zeros_like(s))
        share = xp.astype(alive, s.dtype) / xp.sum(xp.astype(alive, s.dtype))
        centre = xp.sum(share * xp.sum(logs, axis=1) / count)
        off = xp.where(kept, logs - centre, xp.zeros_like(logs))
        squares = xp.sum(off**2, axis=1) / count
        size = xp.sum(xp.abs(off), axis=1) / count
        return float(xp.sum(share * squares)), float(xp.sum(share * size)), squares

    def _worst(self, per_anchor: Array | None) -> tuple[int, ...]:
        """Rows of the anchors with the largest entries."""
        if per_anchor is None or self.anchors is None:
            return ()
        values, places = to_numpy(per_anchor), to_numpy(self.anchors)
        if values.shape[0] != places.shape[0]:
            return ()
        known = [i for i in range(values.shape[0]) if math.isfinite(values[i])]
        return tuple(int(places[i]) for i in sorted(known, key=lambda i: -values[i])[:_WORST])

    def _noise_range(self, name: str) -> tuple[float, float] | None:
        """Levels at which the account's term, or the gap of the rates, is half its most or more."""
        account: RateAccount | None = self.penalties.along_noise
        field = {
            "tangential distortion": "tangential",
            "unnormalised channels": "tangential",
            "encoder curvature": "encoder",
            "data curvature": "data",
        }.get(name)
        if account is not None and field is not None and any(to_numpy(account.valid)):
            size = abs(to_numpy(getattr(account.mmse_rate, field)))
            levels, valid = to_numpy(account.noise_levels), to_numpy(account.valid)
        elif self.data is not None and self.matched is not None:
            size = abs(to_numpy(self.matched.mmse_rate) - to_numpy(self.data.mmse_rate))
            levels = to_numpy(self.data.noise_levels)
            valid = to_numpy(self.data.valid) & to_numpy(self.matched.valid)
        else:
            return None
        known = [i for i in range(len(levels)) if valid[i] and math.isfinite(size[i])]
        most = max((size[i] for i in known), default=0.0)
        if most <= 1e-9:
            return None
        acting = [float(levels[i]) for i in known if size[i] >= most / 2]
        return min(acting), max(acting)

    def _finding(
        self,
        name: str,
        value: float,
        stderr: float,
        quantity: str,
        weight: float,
        *,
        samples: Sequence[int] = (),
        channels: Sequence[int] = (),
        directions: Array | None = None,
        evidence: str,
        beyond: bool = True,
    ) -> Finding:
        weight = min(max(weight, 0.0), 1.0)
        sure = beyond and value > _BEYOND * stderr
        called = samples if self.rows is None else [int(self.rows[i]) for i in samples]
        return Finding(
            name=name,
            value=value,
            stderr=stderr,
            quantity=quantity,
            weight=weight,
            serious=weight >= SERIOUS and sure,
            noise_range=self._noise_range(name) if weight >= _SLIGHT else None,
            samples=tuple(dict.fromkeys(called)),
            channels=tuple(channels),
            directions=directions,
            evidence=evidence,
            advice=ADVICE[name],
        )
