"""
What the label tells: class-conditional curves
==============================================

Generators are told the class that they are to draw. Then the laws that matter are those of the
classes, and the average of their curves,
:func:`~skfisher.conditional.class_conditional_curve`, takes the place of the curve of all rows.
What lies between the two is the information that a noisy sample has about its label.
"""

# %%
# Three classes whose answer is known
# -----------------------------------
# Gaussian classes in the plane have their curve in closed form.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skfisher.conditional import class_conditional_curve
from skfisher.noise import default_noise_levels

rng = np.random.default_rng(0)
names = np.asarray(["narrow", "round", "wide"])
variances = np.asarray([[0.05, 0.4], [0.3, 0.3], [1.0, 0.5]])
centres = np.asarray([[0.0, 0.0], [3.0, 0.0], [0.0, 3.5]])
labels = rng.choice(3, 2400, p=[0.2, 0.3, 0.5])
X = centres[labels] + rng.standard_normal((2400, 2)) * np.sqrt(variances[labels])
found = class_conditional_curve(X, names[labels], score_model="gaussian")
print(found)

t = found.curve.noise_levels**2
exact = sum(
    p * np.sum(1 / (v + t[:, None]), axis=1)
    for p, v in zip([0.2, 0.3, 0.5], variances, strict=True)
)
z = (found.curve.fisher_information - exact) / found.curve.fisher_information_stderr
print(f"largest deviation from the closed form: {np.abs(z).max():.1f} standard errors")

# %%
# The score of all rows together is no Gaussian; a mixture is fitted to them. J without the label
# lies below J with it, by twice what the information about the label loses with the noise, and that
# information starts at the entropy of the label, which is 1.03 nats here, where the classes hardly
# overlap.

levels = default_noise_levels(X, 11)
both = class_conditional_curve(X, names[labels], score_model="mixture", noise_levels=levels)
print(f"entropy of the label {both.label_entropy:.3f} nats")
for k in range(0, 11, 2):
    print(
        f"  sigma {both.curve.noise_levels[k]:6.3f}  I(label; Y) "
        f"{both.label_information[k]:6.3f} +- {both.label_information_stderr[k]:.3f}"
    )

# %%
# The digits
# ----------
# Ten classes of about 180 rows each, in ten principal components. The velocity irreducible variance
# is what a flow model cannot predict; told the digit, it is left with less. Each class has a tenth
# of the rows and its score model errs more, so the gain is if anything understated.

digits = load_digits()
Z = PCA(10, random_state=0).fit_transform(digits.data)
levels = default_noise_levels(Z, 9, 0.1, 5.0)
of_digits = class_conditional_curve(Z, digits.target, score_model="mixture", noise_levels=levels)
plain, told = of_digits.unconditional, of_digits.curve
print(f"VIV without the label {plain.viv:.3f} +- {plain.viv_stderr:.3f}")
print(f"VIV with it           {told.viv:.3f} +- {told.viv_stderr:.3f}")
print(f"valid levels          {plain.valid.sum()} without, {told.valid.sum()} with the label")

# %%
# Which digits are the hardest to draw?

order = np.argsort([-curve.viv for curve in of_digits.class_curves])
for c in order[[0, 1, -2, -1]]:
    curve = of_digits.class_curves[c]
    print(f"  digit {of_digits.classes[c]}: VIV {curve.viv:.3f} +- {curve.viv_stderr:.3f}")

# %%

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
sigma = both.curve.noise_levels
for curve, colour, name in (
    (both.curve, "tab:orange", "with the label"),
    (both.unconditional, "tab:blue", "without"),
):
    left.plot(sigma, curve.mmse_rate, color=colour, label=name)
    left.plot(sigma[~curve.valid], curve.mmse_rate[~curve.valid], "x", color=colour)
left.set(xscale="log", xlabel=r"noise level $\sigma$", ylabel="MMSE rate", title="three classes")
left.legend()
right.errorbar(sigma, both.label_information, 2 * both.label_information_stderr, color="tab:green")
right.axhline(both.label_entropy, color="0.4", lw=1, ls="--")
right.annotate("entropy of the label", (sigma[0], both.label_entropy - 0.07), color="0.4")
right.set(xscale="log", xlabel=r"noise level $\sigma$", ylabel="I(label; Y) in nats")

# %%
# What was claimed
# ----------------

assert np.abs(z).max() < 4
assert np.all(both.fisher_information_gap > -2 * both.fisher_information_gap_stderr)
assert 0.85 * both.label_entropy < both.label_information[0] < 1.1 * both.label_entropy
assert told.viv + 4 * np.hypot(told.viv_stderr, plain.viv_stderr) < plain.viv
assert told.valid.any()
