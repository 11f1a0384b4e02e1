"""
Gaussian data through linear encoders
=====================================

The one experiment in which everything is known: Gaussian data, a linear encoder, a Gaussian latent.
Four curves of data and latent, the Fisher information J, its rate R, the MMSE and the MMSE rate,
show what an isometry keeps, what the number of dimensions alone does, and what a stretch changes.
After the first experiment of Gu et al., arXiv 2604.02751.
"""

# %%
# The data and the encoders
# -------------------------
# Rows on a four-dimensional subspace of eight dimensions, with standard deviations from 2 to 1/2
# along its axes. An encoder z = A x is compared at c times the noise of the data, log c the mean
# log of the singular values that A keeps there: then an isometry of any scale shows as one.

import matplotlib.pyplot as plt
import numpy as np

from skfisher import gaussian_curve
from skfisher.crossfit import cross_fitted_curve
from skfisher.display.drawing import COLOURS, MARKERS, legend_below, log_axis
from skfisher.samples import make_sample

rng = np.random.default_rng(0)


def orthonormal(n, k):
    return np.linalg.qr(rng.standard_normal((n, k)))[0]


D, k = 8, 4
U, deviations = orthonormal(D, k), np.geomspace(2.0, 0.5, k)
S = (U * deviations**2) @ U.T


def stretch(condition):
    """The subspace's axes times factors of geometric mean 1, the widest times the largest."""
    return (orthonormal(k, k) * np.geomspace(condition**0.5, condition**-0.5, k)) @ U.T


encoders = {
    "isometry to 4": 0.5 * orthonormal(k, k) @ U.T,
    "isometry to 12": 2.0 * orthonormal(12, D),
    "condition 2": stretch(2),
    "condition 8": stretch(8),
    "condition 32": stretch(32),
    "two directions dropped": U.T[:2],
    "whitening": U.T / deviations[:, None],
    "random, to 6": rng.standard_normal((6, D)) / np.sqrt(D),
}

# %%
# Estimates and closed forms
# --------------------------
# 5,000 rows for every space, each of its own draw. The score is that of a Gaussian fitted to the
# rows by :func:`~skfisher.crossfit.cross_fitted_curve`, which is what `~skfisher.FIRateEstimator`
# calls, here without the bracket of J, which costs the most. The closed form is
# :func:`~skfisher.gaussian_curve`. J and R of a latent are turned to the data's unit: times c^2 and
# c^4.

levels, fine = np.geomspace(0.08, 10.0, 10), np.geomspace(0.07, 11.0, 120)


def scale_of(A):
    kept = np.linalg.svd(A @ U, compute_uv=False)
    return np.exp(np.mean(np.log(kept[kept > 1e-6 * kept[0]])))


def panels(curve, c):
    """Values and errors of what is drawn, in units of the data."""
    t = (curve.noise_levels / c) ** 2
    forms = {
        "J": (curve.fisher_information, curve.fisher_information_stderr, c**2 * t),
        "R": (curve.fisher_information_rate, curve.fisher_information_rate_stderr, c**4 * t**2),
        "MMSE": (curve.mmse, curve.mmse_stderr, 1 / c**2),
        "MMSE rate": (curve.mmse_rate, curve.mmse_rate_stderr, 1.0),
    }
    return {name: (value * unit, error * unit) for name, (value, error, unit) in forms.items()}


def measure(A, seed):
    """Scale, dimension, and the four curves: estimated, exact there, and exact on a fine grid."""
    draws = np.random.default_rng(seed).standard_normal((5000, k)) * deviations
    X, covariance, c = draws @ U.T, S, 1.0
    if A is not None:
        X, covariance, c = X @ A.T, A @ S @ A.T, scale_of(A)
    found = cross_fitted_curve(make_sample(X), c * levels, "gaussian", bracket=False).curve
    exact = [panels(gaussian_curve(covariance, c * sigma), c) for sigma in (levels, fine)]
    return c, covariance.shape[0], panels(found, c), *exact


data = measure(None, 100)
latents = {name: measure(A, 101 + i) for i, (name, A) in enumerate(encoders.items())}

# %%
# Each picture sets some latents against the data (black). Lines are closed forms, points are
# estimates with two standard errors, mostly smaller than the points. J and R are drawn times t and
# t^2: for pure noise in n dimensions both are n.

TITLES = {
    "J": "Fisher information   $t\\,J$",
    "R": "its rate   $t^2R$",
    "MMSE": "MMSE",
    "MMSE rate": r"MMSE rate   $\partial_t\,\mathrm{mmse}$",
}


def draw(names, title):
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 6.6), sharex=True, layout="constrained")
    shown = {"data": data} | {name: latents[name] for name in names}
    colours = ("black", *COLOURS[:-1])
    for i, (name, (_, n, found, _, exact)) in enumerate(shown.items()):
        label = name if str(n) in name.split() else f"{name} (n = {n})"
        for ax, form in zip(axes.flat, TITLES, strict=True):
            # thinner lines over thicker ones, so that one that lies on another is seen
            look = {"color": colours[i], "lw": 5.0 if i == 0 else 2.6 - 0.5 * i}
            ax.plot(fine, exact[form][0], alpha=0.25 if i == 0 else 1.0, zorder=2 + i, **look)
            value, error = found[form]
            ax.errorbar(
                levels, value, 2 * error, ls="none", color=colours[i], marker=MARKERS[i],
                ms=6.5 - i, elinewidth=1.0, label=label, zorder=8 + i,
            )  # fmt: skip
    for ax, words in zip(axes.flat, TITLES.values(), strict=True):
        ax.set_title(words, loc="left", fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        log_axis(ax, decades=3)
        ax.set_xlim(fine[0], fine[-1])
        ax.margins(y=0.04)
    log_axis(axes[1, 0], decades=3, axis="y")
    for ax in axes[1]:
        ax.set_xlabel(r"noise $\sigma$ of the data, latents at $c\,\sigma$")
    legend_below(figure, axes.flat, ncols=2)
    figure.suptitle(title)


# %%
# Isometries
# ----------
# Whatever the scale and the number of dimensions, MMSE and MMSE rate of an isometry are the data's.
# J and R are not: c^2 J_Z - J_X is (d - D)/t and c^4 R_Z - R_X is (d - D)/t^2, at every noise. This
# is the bookkeeping of dimensions; it says nothing of the encoder, and grows without bound as t
# goes to 0.

draw(["isometry to 4", "isometry to 12"], "Isometries: dimensions move J and R, nothing else")

# %%
# Stretching
# ----------
# Singular values that differ move all four. In t J and t^2 R the constant d - D is by far the
# largest part at small noise; in the middle the distortion shows as a curve that no longer bends
# where the data's does, most in the MMSE rate.

draw(["condition 2", "condition 8", "condition 32"], "Stretched axes: distortion moves all four")

# %%
# Lost directions, and a stretch that helps
# -----------------------------------------
# Dropping directions takes them out of MMSE and rate at small noise, and leaves the wide ones alone
# at large noise. Whitening is a stretch as well, and has a tangential distortion; it happens to
# make the latent simpler. That a curve differs from the data's says that the encoder is no
# isometry, not that its latent is worse.

draw(
    ["two directions dropped", "whitening", "random, to 6"],
    "Lost directions, whitening, a random map",
)

# %%
# What the change of R is made of
# -------------------------------
# t^2 (c^4 R_Z - R_X) is d - D plus what the encoder does. Where no direction is lost the constant
# is all of it as the noise becomes small: dimensional compression dominates the rate.

d_eff = {
    name: n - found["J"][0] for name, (_, n, _, found, _) in (latents | {"data": data}).items()
}
print("encoder                 d - D   the rest at sigma =", *[f"{s:6.2f}" for s in levels[::3]])
rest = {}
for name, (_, d, _, exact, _) in latents.items():
    rest[name] = exact["R"][0] - data[3]["R"][0] - (d - D)
    print(f"{name:24s}{d - D:5d}{'':22s}", *[f"{r:6.2f}" for r in rest[name][::3].round(2) + 0.0])

# %%
# What was claimed
# ----------------
# Every estimate meets its closed form within four standard errors. Isometries keep MMSE and rate,
# and move J and R by the constant; distortion moves the rate the more the larger the condition
# number; at the smallest noise the constant is nearly all of what moves R.

for _, _, found, exact, _ in [data, *latents.values()]:
    for form, (value, error) in found.items():
        assert np.all(np.abs(value - exact[form][0]) < 4 * error)
for name in ("isometry to 4", "isometry to 12"):
    _, d, _, exact, _ = latents[name]
    for form, change in (("J", d - D), ("R", d - D), ("MMSE", 0.0), ("MMSE rate", 0.0)):
        assert np.allclose(exact[form][0], data[3][form][0] + change, atol=1e-8)
gaps = [
    np.max(np.abs(latents[f"condition {c}"][3]["MMSE rate"][0] - data[3]["MMSE rate"][0]))
    for c in (2, 8, 32)
]
assert 0.05 < gaps[0] < gaps[1] < gaps[2]
assert all(abs(rest[f"condition {c}"][0]) < 0.05 * (D - k) for c in (2, 8))
assert np.isclose(d_eff["two directions dropped"][0], 2, atol=0.05)
