"""
The effective dimension of a circle
===================================

Seen through noise, a sample has the dimension that the noise leaves it: d_eff = n - t J, the mean
squared error of the best denoiser in units of the noise. On a circle it is 1 while the noise is
small beside the radius, and falls to 0 when the circle shrinks to a blurred point.
"""

# %%
# Rows and exact answer
# ---------------------
# Points on the unit circle, without noise of their own. :func:`~skfisher.testing.circle_oracle`
# integrates the exact density at every noise level.

import matplotlib.pyplot as plt
import numpy as np

from skfisher import FisherInformationEstimator
from skfisher.testing import circle_oracle

N = 1500
angle = np.random.default_rng(0).uniform(0, 2 * np.pi, N)
X = np.stack([np.cos(angle), np.sin(angle)], axis=1)
spacing = 2 * np.pi / N

levels = np.geomspace(0.2 * spacing, 4.0, 22)
estimator = FisherInformationEstimator(score_model="kernel", noise_levels=levels).fit(X)
curve = estimator.curve_
oracle = circle_oracle(1.0, levels)

# %%
# The kernel model is the exact score of the smoothed rows; each row is scored by all others. Below
# a few spacings of the rows it sees single points, whose dimension is 0, and not the circle. The
# bracket opens there and the levels are marked.

for k in range(0, len(levels), 3):
    print(
        f"sigma {levels[k]:.4f}  d_eff {curve.effective_dimension[k]:6.3f} "
        f"+- {curve.effective_dimension_stderr[k]:.3f}  exact {oracle.effective_dimension[k]:.3f}  "
        f"{curve.reasons[k] or 'valid'}"
    )

# %%
# The picture
# -----------
# Both ends of the bracket of J are turned into effective dimension, in which the smoothed rows,
# that bound J from above, are the lower curve.

t = levels**2
valid = estimator.valid_
figure, ax = plt.subplots(figsize=(7.6, 4.0), layout="constrained")
step = np.sqrt(levels[1] / levels[0])
for k in np.flatnonzero(~valid):
    label = "not valid" if k == np.flatnonzero(~valid)[0] else None
    ax.axvspan(levels[k] / step, levels[k] * step, color="0.9", lw=0, label=label)
bracket = 2 - t[:, None] * curve.fisher_information_bounds
ax.fill_between(levels, *bracket.T, color="tab:orange", alpha=0.3, label="bracket")
ax.plot(levels, oracle.effective_dimension, "k:", label="exact")
ax.errorbar(
    levels[valid],
    curve.effective_dimension[valid],
    2 * curve.effective_dimension_stderr[valid],
    fmt="o",
    ms=4,
    color="tab:blue",
    label="estimate ± 2 standard errors",
)
ax.plot(levels[~valid], curve.effective_dimension[~valid], "x", color="tab:blue")
for value, text in ((spacing, "spacing of the rows"), (1.0, "radius")):
    ax.axvline(value, color="0.5", lw=0.8)
    ax.annotate(text, (value, 1.92), (4, 0), textcoords="offset points", va="top")
ax.set(
    xscale="log",
    xlabel=r"noise level $\sigma$",
    ylabel="effective dimension n - t J",
    ylim=(0, 2),
    xlim=(levels[0] / step, levels[-1] * step),
)
_ = ax.legend(loc="lower center")

# %%
# The rise before the fall is no error: for small t the exact value is 1 + t / (2 r^2), because the
# posterior follows the bend of the circle and leaves the tangent.

# %%
# What was claimed
# ----------------
# Valid levels agree with quadrature; levels below the spacing are marked.

assert not valid[levels < spacing].any()
assert valid.sum() >= 10
miss = np.abs(curve.effective_dimension - oracle.effective_dimension)[valid]
assert np.all(miss < 0.03 + 4 * curve.effective_dimension_stderr[valid])
middle = valid & (levels > 4 * spacing) & (levels < 0.2)
assert np.all(np.abs(curve.effective_dimension[middle] - 1) < 0.1)
