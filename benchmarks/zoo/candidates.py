"""The numbers that might predict generation, with what is expected of each.

Written before any generator was trained. `measures` measures them. Numbers that end in `_log` and
`_flow` are means over noise levels from 0.05 to 5 times the RMS of the latents, uniform in log
sigma or in the flow time u = sigma / (s + sigma).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CANDIDATES", "LATE", "RESOLUTIONS", "Candidate"]


class Candidate(NamedTuple):
    """What is expected of a number before any generator is trained."""

    higher_is_better: bool
    needs: str  # "latents", "labels", "data", "encoder", "decoder" or "features"
    meaning: str
    late: bool = False  # made after the first results


def _table() -> dict[str, Candidate]:
    table: dict[str, Candidate] = {}

    def add(name: str, better: str, needs: str, meaning: str, *, windows: bool = False) -> None:
        for suffix in ("_log", "_flow") if windows else ("",):
            table[name + suffix] = Candidate(better == "higher", needs, meaning)

    alone = "latents"
    add("fir", "lower", alone, "t^2 R / d, at least (tJ)^2 / d^2", windows=True)
    add("rate", "lower", alone, "MMSE rate per dimension", windows=True)
    add("rate_excess", "higher", alone, "MMSE rate less that of the Gaussian", windows=True)
    add("noise_prediction", "higher", alone, "held-out noise-prediction score", windows=True)
    add("noise_excess", "lower", alone, "the same less that of the Gaussian", windows=True)
    add("nonlinearity", "lower", alone, "(rate - |I + t E H|^2) / d", windows=True)
    add("d_eff", "lower", alone, "effective dimension over d", windows=True)
    add("d_eff_spread", "lower", alone, "spread over log sigma of where d_eff falls")
    add("viv", "lower", alone, "exact VIV per dimension over the RMS")
    add("viv_sum", "lower", alone, "exact VIV, summed over dimensions")
    add("viv_gap", "lower", alone, "Gaussian VIV less exact VIV")
    add("log_condition", "lower", alone, "log ratio of largest to 1 % quantile eigenvalue")
    add("participation", "higher", alone, "participation ratio of the spectrum over d")
    add("entropy_rank", "higher", alone, "exponential entropy of the spectrum over d")
    add("dead_share", "lower", alone, "share of eigenvalues below 1 % of their mean")
    add("kurtosis", "lower", alone, "mean excess kurtosis along principal axes")
    add("dimension", "lower", alone, "d")
    add("log_dimension", "lower", alone, "log d")
    add("sliced_distance", "lower", alone, "sliced distance of mixture samples to held-out rows")
    add("viv_class", "lower", "labels", "exact VIV within classes")
    add("viv_class_gap", "higher", "labels", "exact VIV less that within classes")
    coded = "encoder"
    add("dimensional_compression", "lower", coded, "share of the data's directions that is lost")
    add("tangential_distortion", "lower", coded, "E|log(G/c^2)|^2 / rank, in the hull of the data")
    add("encoder_curvature", "lower", coded, "times the squared radius, in the hull of the data")
    add("curvature_change", "lower", coded, "what the encoder adds to the data's curvature")
    add("data_curvature", "lower", "data", "times the squared radius; the same for all encoders")
    add("tangential_distortion_local", "lower", coded, "in the span of near neighbours")
    add(
        "encoder_curvature_local",
        "lower",
        coded,
        "E|D^2 f[u,u]|^2 / |Df u|^4 in that span, times r^2",
    )
    add("log_distortion", "lower", "data", "log L/m of pairs")
    add("pair_spread", "lower", "data", "log ratio of 95 % to 5 % quantile of stretched distances")
    add("d_eff_mismatch", "lower", "data", "|d_eff of latent - of data| at matched noise, over d")
    add("diagnosis_weight", "lower", coded, "largest weight of a finding")
    for metric, needs in (
        ("linear", "data"), ("encoder", coded), ("pixels", "decoder"), ("features", "features"),
    ):  # fmt: skip
        windows = metric != "features"
        through = {
            "linear": "by the linear decoder of pairs",
            "encoder": "by the root of the mean pseudo-inverse of Df Df^T",
            "pixels": "by the decoder",
            "features": "by decoder and feature network, at three levels",
        }[metric]
        for name in ("decoded_error", "linear_error", "decoded_nonlinearity"):
            add(f"{name}_{metric}", "lower", needs, f"{name} {through}", windows=windows)
        add(f"sensitivity_{metric}", "lower", needs, f"at the smallest noise, {through}")
    add("sensitivity_pixels_mean", "lower", "decoder", "mean over log sigma, by the decoder")
    add("sensitivity_ratio", "lower", "decoder", "by the decoder, over that of the linear one")
    for surrogate in ("gaussian", "mixture"):
        what = f"Frechet distance of decoded {surrogate} samples to reconstructions"
        add(f"surrogate_{surrogate}_features", "lower", "features", what)
        relative = f"{what}, along 64 axes of pixels, over the reconstructions' variance there"
        add(f"surrogate_{surrogate}_pixels", "lower", "decoder", relative)
    return table


CANDIDATES: dict[str, Candidate] = _table()

RESOLUTIONS = (0.0, 0.05, 0.1)
LATE: dict[str, Candidate] = {
    f"surrogate_resolved_{share}": Candidate(
        False,
        "features",
        f"surrogate_mixture_features of 2,000 rows, samples blurred by {share} of the RMS scale",
        late=True,
    )
    for share in RESOLUTIONS
}
LATE |= {
    f"surrogate_shipped{suffix}": Candidate(
        False,
        needs,
        f"as the library measures it: a mixture of 10,000 rows, samples blurred by 0.05 of the RMS "
        f"scale, against 2,000 rows{where}",
        late=True,
    )
    for suffix, needs, where in (
        ("", "features", ""),
        ("_pixels", "decoder", ", along 64 axes of pixels"),
    )
}
"""Made after the small budget's first seed on Fashion-MNIST was seen, and those shipped after the
large budget's first seed; never chosen from."""
