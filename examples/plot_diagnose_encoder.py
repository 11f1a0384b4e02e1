"""
Why is this latent hard, and what to change
===========================================

:class:`~skfisher.LatentGeometryAuditor` names what is wrong with a latent space, says where on the
noise axis it acts, and what to do about it. Here two faults are planted in an encoder whose right
answer is known. The diagnosis is followed twice, and every step is measured.
"""

# %%
# A rolled sheet and an encoder with two faults
# ---------------------------------------------
# The data are a sheet, rolled on a cylinder of radius 2. The right encoder unrolls it: arc length
# and height, no stretch. Ours adds a wave to the height and makes that channel four times as large.
# It loses nothing: arc length and height can be computed from the latent.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skfisher import compare_encoders
from skfisher.display import DiagnosisDisplay, PenaltyDisplay

rng = np.random.default_rng(0)
radius = 2.0
arc, height = rng.uniform(-2.6, 2.6, size=(2, 900))
X = np.stack([radius * np.sin(arc / radius), radius * np.cos(arc / radius), height], axis=1)


def unroll(x, wave):
    along = radius * np.arctan2(x[:, 0], x[:, 1])
    return np.stack([along, 4 * (x[:, 2] + wave * np.sin(3 * along))], axis=1)


def waved(x):
    return unroll(x, 0.6)


def smooth(x):
    return unroll(x, 0.0)


# %%
# Three encoders are audited on the same rows with the same noise: the one with both faults, the one
# without the wave, and the same with its channels brought to one variance.

found = compare_encoders(
    {
        "waved": waved,
        "smooth": smooth,
        "smooth, one variance": make_pipeline(FunctionTransformer(smooth), StandardScaler()),
    },
    X,
    score_model="mixture",
    noise_levels=np.geomspace(0.25, 1.2, 6),
    criterion="complexity",
)
reports = {record.name: record.report for record in found.records}
waved_report = reports["waved"]

# %%
# Diagnosis
# ---------
# Findings are weighed in one unit, the share of the MMSE rate per dimension that they may change.
# A weight is a model and no measurement: that of curvature is the first order in the noise, which
# says no more than "far too much" once it reaches 1. Serious is what weighs 0.05 or more and is
# beyond its error. The bend of the data is listed too, but is not the encoder's doing.

for finding in waved_report.diagnosis.serious:
    print(f"{finding.name}, weight {finding.weight:.2f}")
    print(f"  {finding.evidence}")
    print("  acts most at noise {:.2f} to {:.2f}".format(*finding.noise_range))
    print(f"  {finding.advice}")

_ = DiagnosisDisplay.from_report(waved_report, title="waved").plot()

# %%
# The penalties along the noise
# -----------------------------
# The same as an account: what lies between the sheet if it were flat and the latent, split among
# three causes. Bars add up from zero in both directions; where the ground is grey a posterior rests
# on too few rows. Unequal stretch, by the wave's slopes and by the large channel, lowers the
# latent's MMSE rate but for the largest noise, and the bends of the wave raise it.

_ = PenaltyDisplay.from_report(waved_report, title="waved").plot()

# %%
# Mending
# -------
# The first advice is to make the encoder smoother: the wave goes. With it goes the distortion that
# no scaling of channels could mend. What is left is the second advice, channels of one variance.
#
# The score, here "complexity", rises with the second step only. It judges the law of the latents,
# and the wave shears the sheet without thinning it: a uniform strip with wavy edges is no harder to
# diffuse than one with straight edges. What the wave spoils is the likeness to the data, which
# account and findings see. A score without a diagnosis would have left it in.

for name in ("waved", "smooth", "smooth, one variance"):
    report = reports[name]
    print(f"{name}: score {report.diffusability:.3f} +- {report.diffusability_stderr:.3f}")
    print(f"  {report.diagnosis}")
    print(f"  the data's MMSE rate is kept to 0.05 per dimension: {report.preservation}")

# %%
# In the account of the mended encoder nothing is stretched. The bend of the data stays, since it is
# a property of the data, and the encoder's part takes it back: it unrolls the sheet. In t^2 R this
# is far beyond the errors.

mended = reports["smooth, one variance"]
_ = PenaltyDisplay.from_report(mended, title="smooth, one variance").plot()

# %%
# Ranked with intervals
# ---------------------
# Rows are resampled for all encoders together. Ranks that the rows cannot tell apart are shared.

for record in found.records:
    low, high = record.rank_interval
    print(
        f"{record.name:22s} rank {record.rank} (95 %: {low} to {high})  "
        f"score {record.diffusability:.3f} +- {record.stderr:.3f}  "
        f"{record.valid_share:.0%} of the levels valid"
    )
plt.show()

# %%
# What was claimed
# ----------------

assert waved_report.diagnosis.dominant.name == "encoder curvature"
assert {"unnormalised channels", "tangential distortion"} <= {
    finding.name for finding in waved_report.diagnosis.serious
}
account = waved_report.penalties.along_noise
terms, valid = account.mmse_rate, account.valid
assert np.any((terms.tangential < -3 * terms.tangential_stderr)[valid])
assert np.any((terms.encoder > 3 * terms.encoder_stderr)[valid])
only = reports["smooth"].diagnosis.serious
assert [finding.name for finding in only] == ["unnormalised channels"]
assert not mended.diagnosis.serious
assert mended.preservation.answers.count("yes") > 0
assert "no" not in mended.preservation.answers
account = mended.penalties.along_noise
assert np.max(np.abs(account.mmse_rate.tangential[account.valid])) < 0.01
terms = account.complexity_penalty
assert terms.data[-1] < -4 * terms.data_stderr[-1]
assert terms.encoder[-1] > 4 * terms.encoder_stderr[-1]
assert np.isclose(mended.penalties.data_curvature, 3 / (8 * radius**2), rtol=0.01)
assert found.records[0].name == "smooth, one variance"
best, *_, worst = found.records
assert best.diffusability - worst.diffusability > 4 * np.hypot(best.stderr, worst.stderr)
assert abs(found["waved"].diffusability - found["smooth"].diffusability) < 0.02
