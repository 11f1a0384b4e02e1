"""
A score model of your own, right and wrong
==========================================

Any callable ``model(y, sigma)`` that returns the score of X + sigma eps can take the place of the
built-in models: a network, a denoiser, a formula. Nobody is obliged to believe it. This example
checks one that is right, and shows what gives two wrong ones away.
"""

# %%
# A formula
# ---------
# X is uniform on a square. Along each axis the density of X + sigma eps is a difference of two
# normal distribution functions, so its score is a ratio; differences are taken in the tail where
# they do not cancel.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import log_ndtr

from skfisher import FisherInformationEstimator, GaussianScore
from skfisher.testing import check_score_model


class SquareScore:
    """Score of the uniform law on [-half, half]^2 plus Gaussian noise."""

    def __init__(self, half):
        self.half = half
        self.name = f"square of half-width {half:g}"

    def __call__(self, y, sigma):
        # by symmetry evaluated at |y|, where both ends are taken in the same tail
        left = -(np.abs(y) + self.half) / sigma
        right = -(np.abs(y) - self.half) / sigma
        log_mass = log_ndtr(right) + np.log1p(-np.exp(log_ndtr(left) - log_ndtr(right)))
        slope = np.exp(-0.5 * left**2 - log_mass) - np.exp(-0.5 * right**2 - log_mass)
        return np.sign(y) * slope / (np.sqrt(2 * np.pi) * sigma)


rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, size=(2000, 2))
levels = np.geomspace(0.2, 3.0, 7)

# %%
# Laws that every score obeys
# ---------------------------
# :func:`~skfisher.testing.check_score_model` needs the model and clean rows. It has no ``jvp``, so
# it is linearised by central differences.

right = SquareScore(1.0)
print(check_score_model(right, X, levels[::3]))

# %%
# A model of a square that is a tenth too large fails. Each line names the law, the noise level, by
# how much the law is missed and how much is allowed.

too_large = SquareScore(1.1)
report = check_score_model(too_large, X, levels[::3], raise_on_failure=False)
print(*report.failures, sep="\n")

# %%
# A Gaussian with the mean and the covariance of X is a wrong score as well, and a harder case: it
# obeys Stein's identity, whatever the data. Fields that look at shape find it out.

gaussian = GaussianScore(np.zeros(2), np.eye(2) / 3)
gaussian_report = check_score_model(gaussian, X, levels[::3], raise_on_failure=False)
print(*gaussian_report.failures, sep="\n")

# %%
# The estimator keeps its own marks
# ---------------------------------
# Without any check beforehand, the curve carries the evidence: the Stein residual, and a bracket
# whose lower end falls when the score is wrong and whose upper end does not depend on it. The first
# column compares J with that of the right model.

curves = {
    name: FisherInformationEstimator(score_model=model, noise_levels=levels).fit(X).curve_
    for name, model in {
        "right": right,
        "a tenth too large": too_large,
        "Gaussian": gaussian,
    }.items()
}
J = curves["right"].fisher_information
for name, curve in curves.items():
    print(f"\n{name}")
    for k, sigma in enumerate(levels):
        width = np.diff(curve.fisher_information_bounds[k])[0] / curve.fisher_information[k]
        print(
            f"  sigma {sigma:.2f}  J {curve.fisher_information[k] / J[k] - 1:+6.1%}  "
            f"bracket {width:5.1%}  Stein residual {curve.stein_residual[k]:+6.1%}  "
            f"{curve.reasons[k] or 'valid'}"
        )

# %%
# Under the model of the larger square J falls out of its bracket at every level. The Gaussian keeps
# its Stein residual at zero within error, and only the bracket, open at small noise, gives it away.
# At large noise the blurred square is a Gaussian to within the bracket, and its levels are valid.
# Between the two stands a level that passes with J several percent too low: what a bracket lets
# pass is an error of its own width.

figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.4), sharey=True, layout="constrained")
for ax, (name, curve) in zip(axes, curves.items(), strict=True):
    scale = levels**2 / 2
    bounds = curve.fisher_information_bounds * scale[:, None]
    ax.fill_between(levels, *bounds.T, color="tab:orange", alpha=0.3, label="bracket of J")
    ax.plot(levels, curve.fisher_information * scale, color="tab:blue", label="J under the model")
    for mark, style in ((curve.valid, "o"), (~curve.valid, "x")):
        label = "valid" if style == "o" else "not valid"
        ax.plot(levels[mark], (curve.fisher_information * scale)[mark], style, color="tab:blue")
        ax.plot([], [], style, color="tab:blue", label=label)
    ax.set(xscale="log", xlabel=r"noise level $\sigma$", title=name)
    ax.set_xticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    ax.set_xticks([], minor=True)
axes[0].set_ylabel("t J / n")
_ = axes[0].legend()

# %%
# What was claimed
# ----------------

assert check_score_model(right, X, levels[::3]).passed
assert report.failures
assert gaussian_report.failures
assert all("Stein" not in check.law for check in gaussian_report.failures)
assert curves["right"].valid.sum() > curves["a tenth too large"].valid.sum()
assert np.abs(curves["a tenth too large"].stein_residual[0]) > 0.1
assert not curves["Gaussian"].valid[0]
