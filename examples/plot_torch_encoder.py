"""
Auditing an encoder written in torch
====================================

A small convolutional autoencoder of the digits, trained for a few seconds, is audited as it stands:
:class:`~skfisher.encoders.TorchEncoder` evaluates it in batches, in eval mode and without
gradients, and leaves it as it was. Its latents have channels, so they have a normalisation too.
"""

# %%
# A variational autoencoder
# -------------------------
# Its ``encode`` returns a mean and a log-variance, so what is to be audited has to be chosen.

import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from skfisher.channels import channel_report
from skfisher.compare import compare_encoders
from skfisher.encoders import TorchEncoder

torch.set_num_threads(1)
X = load_digits().data / 8 - 1
images = torch.tensor(X, dtype=torch.float32).reshape(-1, 1, 8, 8)


class Autoencoder(nn.Module):
    """8 x 8 pixels to 4 x 2 x 2 latents and back."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 8, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(4, 32, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(32, 16, 2, stride=2),
            nn.SiLU(),
            nn.ConvTranspose2d(16, 1, 2, stride=2),
        )

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)

    def decode(self, z):
        return self.decoder(z)


def train(weight, steps=600):
    """Reconstruction plus `weight` times the divergence from the standard normal."""
    torch.manual_seed(0)
    model = Autoencoder()
    optimiser = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(steps):
        x = images[torch.randint(len(images), (128,))]
        mean, log_variance = model.encode(x)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum((1, 2, 3))
        loss = ((model.decode(z) - x) ** 2).sum((1, 2, 3)).mean() + weight * divergence.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


start = time.perf_counter()
models = {"weak prior": train(0.01), "strong prior": train(0.2)}
print(f"trained two autoencoders in {time.perf_counter() - start:.1f} s")

# %%
# Latents and their channels
# --------------------------
# Rows of the digits are given to the module as 1 x 8 x 8 images; what comes back are rows again,
# and the shape of one latent is remembered.

encoders = {
    name: TorchEncoder(model, posterior="mean", input_shape=(1, 8, 8))
    for name, model in models.items()
}
latents = {name: encoder.transform(X) for name, encoder in encoders.items()}
for name, encoder in encoders.items():
    report = channel_report(latents[name], encoder.latent_shape_)
    print(f"\n{name}\n{report.text}")

# %%
# The strong prior holds the latents at the standard normal, the weak one lets them spread. That
# alone is no fault: the audit measures on the latents' own scale. A diffusion model would still
# want them multiplied by ``report.scaling_factor`` first.
#
# The ranking
# -----------
# The score stands beside the reconstruction error, here by the module's own decoder: the stronger
# prior forgets more. A model trained on samples of the posterior sees the posterior's noise too.
# Noise is easy to model, so the score, minus the mean of t^2 R / d, rises, and the error with it:
# the score alone would praise an encoder that forgets everything.

encoders["strong prior, sampled"] = TorchEncoder(
    models["strong prior"], posterior="sample", input_shape=(1, 8, 8)
)
found = compare_encoders(
    encoders,
    X,
    score_model="mixture",
    noise_levels=[0.5],
    max_points=1000,
    standardize=True,
    criterion="complexity",
)
print()
for record in found.records:
    print(
        f"{record.name:22s} score {record.diffusability:.3f} +- {record.stderr:.3f}  "
        f"lost {record.reconstruction_error:.3f} ({record.decoder})  "
        f"valid {record.valid_share:.0%}"
    )

# %%
# What the noise meets
# --------------------
# The effective dimension of each latent along the noise, in units of its own scale.

figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for record in found.records:
    curve = record.report.latent_curve
    ratio = curve.noise_levels / record.latent_scale
    ax.plot(ratio, curve.effective_dimension, label=record.name)
    ax.plot(ratio[~curve.valid], curve.effective_dimension[~curve.valid], "x", color="0.4")
ax.plot([], [], "x", color="0.4", label="not valid")
ax.set(xscale="log", xlabel="noise over the latent's scale", ylabel="effective dimension")
_ = ax.legend()

# %%
# What was claimed
# ----------------

assert encoders["weak prior"].latent_shape_ == (4, 2, 2)
assert all(model.training for model in models.values())  # as training left them
weak, strong = found["weak prior"], found["strong prior"]
assert weak.reconstruction_error < strong.reconstruction_error
assert found["strong prior, sampled"].diffusability > strong.diffusability
assert np.all(latents["weak prior"].std(axis=0) > 0)
