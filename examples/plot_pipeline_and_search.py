"""
A pipeline, a grid search, and what the score does not see
==========================================================

:class:`~skfisher.FIRateEstimator` ends a scikit-learn pipeline, and its ``score`` can steer a
search. It measures how hard the latent is to denoise and does not see what the encoder threw away,
so a search needs a reconstruction error beside it.
"""

# %%
# The pipeline
# ------------
# Handwritten digits, centred, projected on their leading components, and measured. All pixels share
# one unit, so they are not divided by their standard deviations: that would blow up the pixels that
# are nearly always blank. The Gaussian score model keeps the example short; ``"auto"`` is the
# default.

import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skfisher import FIRateEstimator, UnreliableEstimateWarning

X = load_digits().data[:700]
pipeline = Pipeline(
    [
        ("centre", StandardScaler(with_std=False)),
        ("encode", PCA(random_state=0)),
        ("rate", FIRateEstimator(score_model="gaussian")),
    ]
)

# %%
# Two numbers for every candidate
# -------------------------------
# The pipeline's own ``score`` is minus the mean of t^2 R / n over the default noise levels, 0.05 to
# 5 times the latent's RMS scale: without a unit, and on a grid that no candidate chooses. The
# second number is the share of the data's variance that the components do not bring back.


def diffusability(pipeline, X, y=None):
    return pipeline.score(X)


def minus_reconstruction_error(pipeline, X, y=None):
    centred = pipeline["centre"].transform(X)
    encoder = pipeline["encode"]
    back = encoder.inverse_transform(encoder.transform(centred))
    return -float(((centred - back) ** 2).sum() / ((centred - centred.mean(axis=0)) ** 2).sum())


# %%
# Which candidate is best depends on what the user can afford to lose. A callable ``refit`` says so:
# the highest score among the candidates that lose less than a fifth of the variance.

LIMIT = 0.2


def best_within_limit(results):
    lost = -results["mean_test_reconstruction"]
    return max(
        (k for k in range(len(lost)) if lost[k] <= LIMIT),
        key=lambda k: results["mean_test_diffusability"][k],
    )


components = [2, 4, 8, 16, 32]
search = GridSearchCV(
    pipeline,
    {"encode__n_components": components},
    scoring={"diffusability": diffusability, "reconstruction": minus_reconstruction_error},
    refit=best_within_limit,
    cv=KFold(3, shuffle=True, random_state=0),
)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    search.fit(X)
unreliable = [w for w in caught if issubclass(w.category, UnreliableEstimateWarning)]
print(len(unreliable), "warnings that a score rests on invalid levels, the first of them:")
print(unreliable[0].message)

# %%
# The warning is earned: a Gaussian is a poor score model of the digits at small noise, where the
# bracket of J stays open. What the scores below measure is little more than the evenness of the
# latent's spectrum.

score = search.cv_results_["mean_test_diffusability"]
spread = search.cv_results_["std_test_diffusability"]
lost = -search.cv_results_["mean_test_reconstruction"]
chosen = search.best_params_["encode__n_components"]
for k, value, error in zip(components, score, lost, strict=True):
    print(f"{k:3d} components  score {value:.3f}  lost {error:.0%}{' <-' * (k == chosen)}")

# %%
# Few components look better to the score alone: the leading variances are nearly equal, and a round
# cloud is the easiest to denoise. What was dropped is not there to be missed. The two numbers make
# a front, and the limit picks a point on it.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained")
left.errorbar(components, score, spread, fmt="o-", capsize=3, label="mean and spread over folds")
left.set(xlabel="components", ylabel="score: minus mean of t²R / n")
left.axvline(components[int(score.argmax())], color="0.6", ls=":", label="best by the score alone")
left.axvline(chosen, color="tab:red", ls="--", label=f"best that loses at most {LIMIT:.0%}")
left.legend(loc="lower left")
right.plot(lost, score, "o-")
for k, value, error in zip(components, score, lost, strict=True):
    right.annotate(str(k), (error, value), (4, -12), textcoords="offset points")
right.axvline(LIMIT, color="tab:red", ls="--")
right.set(xlabel="share of the variance lost", xlim=(0, None))
_ = right.set_title("the front; numbers are components", loc="left")

# %%
# What was claimed
# ----------------
# The score alone takes a small candidate that loses most of the digits; with the limit the search
# takes a larger one, which does not.

alone = int(score.argmax())
assert lost[alone] > 0.5
assert lost[components.index(chosen)] <= LIMIT
assert score[components.index(chosen)] < score[alone]
