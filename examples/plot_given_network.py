"""
Audit a network you already have
================================

A diffusion model knows the score of the data it was trained on, in a convention of its own: which
noise its input carries, what it is told of the time, what it predicts. Declared once, the network
takes the place of a score model, and the estimators say at which noise levels it may be believed.
"""

# %%
# A network in somebody's convention
# ----------------------------------
# A small network is trained to predict the noise in the digits, brought to 16 coordinates, on the
# variance-preserving path with 1000 steps, as most image models are. Half of the digits are kept
# aside: a network is audited on points that it has not seen.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skfisher import FIRateEstimator
from skfisher.noise import DiscreteVP
from skfisher.scores.adapters import from_module

torch.manual_seed(0)
digits = PCA(16, random_state=0).fit_transform(load_digits().data)
digits = digits / digits.std()
order = np.random.default_rng(0).permutation(len(digits))
train, held_out = digits[order[:900]], digits[order[900:]]
alphas_cumprod = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


class NoisePredictor(torch.nn.Module):
    """eps(x, step), with sines and cosines of the step."""

    def __init__(self, n_features, width=128):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(n_features + 16, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, n_features),
        )

    def forward(self, x, step):
        angles = step[:, None] / 1000 * 2.0 ** torch.arange(8)
        return self.layers(torch.cat([x, angles.sin(), angles.cos()], dim=1))


def train_network(n_updates):
    """A network trained on noise at random steps, its weights averaged over the last half."""
    network = NoisePredictor(train.shape[1])
    average = torch.optim.swa_utils.AveragedModel(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    clean = torch.tensor(train, dtype=torch.float32)
    signal = torch.tensor(alphas_cumprod, dtype=torch.float32)
    for update in range(n_updates):
        x0 = clean[torch.randint(len(clean), (128,))]
        step = torch.randint(1000, (128,))
        eps = torch.randn_like(x0)
        a, b = signal[step].sqrt()[:, None], (1 - signal[step]).sqrt()[:, None]
        loss = torch.mean((network(a * x0 + b * eps, step.float()) - eps) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update >= n_updates // 2:
            average.update_parameters(network)
    return average.module


network = train_network(3000)

# %%
# Declared, not guessed
# ---------------------
# The adapter needs what the network does not say: the kind of its prediction and the path of its
# noise. Noise levels are in units of the data, sigma = b / a; the steps of the path are looked up,
# and Jacobian products are taken through the network.

model = from_module(network, prediction="epsilon", path=DiscreteVP(alphas_cumprod))
levels = np.geomspace(0.1, 5.0, 9)
audit = FIRateEstimator(score_model=model, noise_levels=levels).fit(held_out)
print(model)
print("products by", model.linearization.mode)

# %%
# What a wrong declaration looks like
# -----------------------------------
# The same network taken for one that predicts v = a eps - b x0 is no score of anything, although it
# still predicts some of the noise. Stein's identity, ``E t |s|^2 = -E t tr H``, gives it away: it
# fails by a sixth or more at every level, and no level is called valid.

mistaken = from_module(network, prediction="v", path=DiscreteVP(alphas_cumprod))
wrong = FIRateEstimator(score_model=mistaken, noise_levels=levels).fit(held_out)

# %%
# The network against closed forms
# --------------------------------
# On the same rows, "auto" fits Gaussians, mixtures and kernels and takes the best at each level.
# The network was trained on other rows and is used as it stands.

closed = FIRateEstimator(score_model="auto", noise_levels=levels).fit(held_out)
print("\nsigma   noise-prediction score            Stein residual     network's level")
print("        network  closed forms  mistaken  network  mistaken")
for k, sigma in enumerate(levels):
    scores = [est.curve_.noise_prediction_score[k] for est in (audit, closed, wrong)]
    stein = [est.curve_.stein_residual[k] for est in (audit, wrong)]
    print(
        f"{sigma:5.2f}   {scores[0]:7.3f}  {scores[1]:12.3f}  {scores[2]:8.3f}  {stein[0]:+7.1%}  "
        f"{stein[1]:+8.1%}  {audit.curve_.reasons[k] or 'valid'}"
    )

# %%
# At small noise the network sees more than the closed forms do, at large noise less: it was trained
# for seconds, and there little is left to see. Which levels count as valid depends on the bracket
# of J, which 897 digits leave open at small noise whatever the model.

figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), layout="constrained")
for est, label in ((audit, "the network"), (closed, "closed forms")):
    axes[0].errorbar(
        levels,
        est.effective_dimension_,
        est.curve_.effective_dimension_stderr,
        fmt="o-",
        label=label,
    )
    axes[1].plot(levels, est.curve_.noise_prediction_score, "o-", label=label)
axes[1].axhline(0, color="0.6", linewidth=0.8)
axes[0].set_ylabel("effective dimension")
axes[1].set_ylabel("noise-prediction score")
for ax in axes:
    ax.set(xscale="log", xlabel=r"noise level $\sigma$")
_ = axes[0].legend()

# %%
# What was claimed
# ----------------

assert np.all(np.isfinite(audit.fisher_information_))
assert np.all(audit.curve_.noise_prediction_score > wrong.curve_.noise_prediction_score)
assert audit.curve_.noise_prediction_score[0] > closed.curve_.noise_prediction_score[0]
assert np.all(np.abs(wrong.curve_.stein_residual) > 1 / 6)
assert audit.valid_.any()
assert not wrong.valid_.any()
