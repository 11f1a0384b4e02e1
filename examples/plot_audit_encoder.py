"""
Auditing an encoder and its stretched version
=============================================

:class:`~skfisher.LatentGeometryAuditor` sets the curve of a latent space beside that of the data:
what the encoder does to distances, which penalties follow, and between which bounds the latent's
curve must lie. A PCA of the digits, and the same PCA with its axes stretched, show how to read it.
"""

# %%
# Two encoders
# ------------
# Both keep the same six components. The second multiplies them by factors between 3 and 1, which
# loses nothing that the first keeps.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skfisher import LatentGeometryAuditor

X = load_digits().data
factors = np.geomspace(3, 1, 6)


def stretch(Z):
    return Z * factors


pca = PCA(6, random_state=0)
levels = np.geomspace(10, 40, 4)
settings = {
    "score_model": "mixture",
    "noise_levels": levels,
    "max_points": 1000,
    "criterion": "complexity",
}
audits = {
    "PCA": LatentGeometryAuditor(pca, **settings).fit(X),
    "stretched PCA": LatentGeometryAuditor(
        make_pipeline(pca, FunctionTransformer(stretch)), **settings
    ).fit(X),
}

# %%
# What the encoder does to distances
# ----------------------------------
# Both are recognised as affine, so their constants are exact on the hull of the data: m is 0,
# because directions are lost, and L is the largest singular value. The audit compares data at noise
# sigma with the latent at c sigma.
#
# The penalties say what kind of change it is. PCA drops directions and leaves the kept ones alone;
# stretching adds distortion, here the mean of (log(factor^2 / c^2))^2, and no curvature. These are
# closed forms, without error. No dimension below that of the hull can be told from so few digits,
# so they count as filling it, and data that fill their hull are flat. The reason says so: the 0 is
# no proof that the digits do not bend.
#
# The diagnosis weighs them against each other: what was dropped comes first in both. The stretch is
# filed under channels of unequal variance, because rescaling them would mend it.
# :ref:`Another example <sphx_glr_auto_examples_plot_diagnose_encoder.py>` goes on from there.

for name, audit in audits.items():
    penalties, (m, L) = audit.penalties_, audit.bi_lipschitz_
    print(f"{name}: {audit.report_.linear}")
    print(f"  m {m:.3g}  L {L:.3g}  c {audit.scale_:.3g}")
    print(f"  dimensional compression {penalties.dimensional_compression:.3f}")
    print(f"  tangential distortion   {penalties.tangential_distortion:.3f}")
    print(f"  encoder curvature       {penalties.encoder_curvature:.3f}")
    print(f"  data curvature          {penalties.data_curvature:.3f}")
    print(f"    {penalties.reasons['data_curvature']}")
    print(f"  {audit.diagnosis_}")
    print(f"  score {audit.diffusability_:.3f} +- {audit.report_.diffusability_stderr:.3f}")

# %%
# The score prefers the plain PCA. By the criterion "complexity" it is minus the mean of t^2 R / d
# over the latent's own grid, and stretching the leading axes makes the spectrum less even. (Which
# criterion orders encoders as generators do, :ref:`another example
# <sphx_glr_auto_examples_plot_choose_encoder.py>` shows.) Its standard error is that of rows,
# noise and probes; at levels that are not valid the score model errs as well, and they are part of
# the mean. ``valid_`` says how many they are.

for name, audit in audits.items():
    print(f"{name}: {audit.valid_.sum()} of {len(audit.valid_)} levels are valid")

# %%
# Curves at matched noise
# -----------------------
# For an isometry up to the scale c the MMSE rates of data and latent would coincide. The plain PCA
# lies below the data, because the directions that it lost are missing, and comes close where the
# noise is large and only the leading directions count. The stretched one crosses the data's curve:
# its leading axes stand out of noise in which those of the data have drowned.

colours = {"PCA": "tab:blue", "stretched PCA": "tab:red"}
figure, ax = plt.subplots(figsize=(7.6, 4.0), layout="constrained")
curves = {"data": ("black", audits["PCA"].data_curve_)}
curves |= {name: (colours[name], audit.matched_curve_) for name, audit in audits.items()}
for name, (colour, curve) in curves.items():
    valid, rate, error = curve.valid, curve.mmse_rate, 2 * curve.mmse_rate_stderr
    ax.plot(levels, rate, color=colour, lw=1)
    ax.errorbar(levels[valid], rate[valid], error[valid], fmt="o", color=colour, label=name)
    ax.plot(levels[~valid], rate[~valid], "x", color=colour)
ax.plot([], [], "x", color="0.4", label="not valid")
ax.set(
    xscale="log",
    xlabel=r"noise level $\sigma$ of the data; of the latent over $c$",
    ylabel="MMSE rate",
)
ax.set_xticks(levels, [f"{sigma:.1f}" for sigma in levels], minor=False)
ax.set_xticks([], minor=True)
_ = ax.legend()

# %%
# Sandwiches and their status
# ---------------------------
# Each sandwich bounds one quantity of the latent by the data's own curve, and says whether this is
# a theorem for the encoder and the data at hand ("proved") or only worth looking at ("diagnostic").
# Where a direction is lost the wide form claims nothing, and of the information sandwich the side
# with L remains.

for quantity, sandwich in audits["stretched PCA"].sandwiches_.items():
    print(f"{quantity:24s} {sandwich!r}")

# %%
# The stretch alone, as an encoder of the six components, loses nothing: m is 1, L is 3, and the
# wide sandwich on J becomes a theorem. A level whose curves are not valid stays "unknown". At noise
# this large a Gaussian score is good enough and quick, as the bracket confirms.

Z = pca.fit_transform(X)
settings |= {"score_model": "gaussian", "max_points": 1500}
alone = LatentGeometryAuditor(FunctionTransformer(stretch), **settings).fit(Z)
sandwich = alone.sandwich_
print(sandwich)
print(*sandwich.hypotheses, sep="\n")
for k, sigma in enumerate(sandwich.noise_levels):
    print(
        f"sigma {sigma:6.1f}  {sandwich.lower[k]:.2e} <= {sandwich.value[k]:.2e} <= "
        f"{sandwich.upper[k]:.2e}  {sandwich.verdict[k]}"
    )

# %%
# What was claimed
# ----------------

plain, stretched = audits["PCA"], audits["stretched PCA"]
distortion = np.mean((np.log(factors**2) - np.mean(np.log(factors**2))) ** 2)
assert plain.penalties_.tangential_distortion < 1e-12
assert np.isclose(stretched.penalties_.tangential_distortion, distortion, rtol=1e-6)
error = np.hypot(plain.report_.diffusability_stderr, stretched.report_.diffusability_stderr)
assert plain.diffusability_ - stretched.diffusability_ > 4 * error
assert plain.bi_lipschitz_[0] == 0.0
assert plain.penalties_.intrinsic_dimension == np.linalg.matrix_rank(X - X.mean(axis=0))
assert plain.penalties_.data_curvature == 0.0
assert plain.diagnosis_.dominant.name == "dimensional compression"
weights = [audit.diagnosis_["unnormalised channels"].weight for audit in (plain, stretched)]
assert weights[0] < weights[1]
assert sandwich.status == "proved"
assert "violated" not in sandwich.verdict
assert "holds" in sandwich.verdict
