"""
Which encoder to take
=====================

:func:`~skfisher.compare_encoders` ranks encoders by one number per latent space. Given a network by
whose features generated samples would be judged, that number is the one which did best in
:doc:`the study of generators </evidence>`: how far decoded samples of a density fitted in seconds
are from decoded latents. From latents alone no number did nearly as well, and here is why.
"""

# %%
# Encoders, decoders and features
# -------------------------------
# Four encoders of the digits. The last bends the latent of another: a function of its first
# coordinate is added to the others. That can be undone, so nothing more is lost. Scikit-learn's
# encoders bring their decoder along, ``inverse_transform``; for others there is ``decoders=``.
#
# Features are any function of decoded rows: here the hidden layer of a network that reads digits.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skfisher import compare_encoders
from skfisher.display import ComparisonDisplay

X, digits = load_digits(return_X_y=True)


def ridge(Z):
    return 6 * np.sin(0.4 * Z[:, :1]) * (np.arange(Z.shape[1]) > 0)


bend = FunctionTransformer(lambda Z: Z + ridge(Z), inverse_func=lambda Z: Z - ridge(Z))
encoders = {
    "PCA": PCA(12, random_state=0),
    "whitened": PCA(12, whiten=True, random_state=0),
    "bent": make_pipeline(PCA(12, random_state=0), bend),
    "NMF": NMF(12, init="nndsvda", max_iter=1000, random_state=0),
}

reader = MLPClassifier((32,), max_iter=500, random_state=0).fit(X, digits)


def features(pictures):
    return np.maximum(pictures @ reader.coefs_[0] + reader.intercepts_[0], 0)


# %%
# By decoded samples
# ------------------
# A Gaussian mixture is fitted to each latent; its samples are decoded and compared with decoded
# latents, by the Frechet distance of the features. The score is minus that distance. What one
# encoder loses is not in it and stands beside it.

settings = {"score_model": "gaussian", "noise_levels": [10.0, 30.0], "max_points": 1000}
by_features = compare_encoders(encoders, X, features=features, **settings)
for record in by_features.records:
    print(
        f"rank {record.rank_interval}  {record.name:10s} score {record.diffusability:7.2f} +- "
        f"{record.stderr:.2f}  lost {record.reconstruction_error:.0%}  "
        f"({record.report.surrogate.surrogate})"
    )

# %%
# The bend costs most: no mixture of a few components follows it, and the decoder makes of a small
# error along the ridge a digit that is none. Whitening cannot be told from its parent: the decoder
# undoes it, for samples as for latents.

display = ComparisonDisplay.from_comparison(by_features, title="Digits through four encoders")
_ = display.plot()

# %%
# From the latents alone
# ----------------------
# The other criteria look at no decoder, and latents can be passed as arrays. All four have twelve
# dimensions, and what is left is how even their variances are: "viv" takes the whitened latent for
# the hardest and "complexity" takes it for the easiest, and neither makes much of the bend. In the
# study neither ordered latents of one dimension. Over all dimensions "viv" goes with their number,
# and their number with generation.

latents = {name: encoder.fit_transform(X) for name, encoder in encoders.items()}
scores = {"surrogate": by_features}
for criterion in ("viv", "complexity"):
    scores[criterion] = compare_encoders(
        latents, criterion=criterion, score_model="gaussian", max_points=1000
    )
for criterion, found in scores.items():
    ranked = "  ".join(f"{r.name} {r.diffusability:.3g}" for r in found.records)
    print(f"{criterion:10s}  {ranked}")

# %%
# What was claimed
# ----------------

surrogate, viv, complexity = ([r.name for r in found.records] for found in scores.values())
assert surrogate[-1] == "bent"
assert by_features.records[-1].rank_interval[0] > by_features.records[-2].rank_interval[1]
assert {"PCA", "whitened"} <= set(by_features.not_separated()[0])
assert viv[-1] == "whitened" == complexity[0]
assert viv.index("bent") < viv.index("whitened")
assert complexity.index("bent") < complexity.index("NMF")
