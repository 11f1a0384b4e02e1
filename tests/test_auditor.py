"""The audit: searched over, in pipelines, on curved data, and where it has to refuse or to mark."""

import json
import math
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from strategies import rotation

from skfisher import LatentGeometryAuditor
from skfisher.encoders import TorchEncoder
from skfisher.estimators import _auditor as auditor_module
from skfisher.exceptions import UnreliableEstimateWarning
from skfisher.scores.network import NetworkRecipe
from skfisher.surrogates import fit_surrogate, surrogate_distance

LEVELS = [0.3, 1.0]
TERMS = ("dimensional_compression", "tangential_distortion", "encoder_curvature")

# few rows and levels: these tests ask what is measured, not whether it may be believed
pytestmark = pytest.mark.filterwarnings("ignore::skfisher.exceptions.UnreliableEstimateWarning")


def audited(X, encoder=None, *, sample_weight=None, **options):
    options = {"score_model": "gaussian", "noise_levels": LEVELS} | options
    if "features" not in options:
        options = {"criterion": "complexity"} | options
    return LatentGeometryAuditor(encoder, **options).fit(X, sample_weight=sample_weight)


def sample(N=60, seed=0):
    return np.random.default_rng(seed).standard_normal((N, 3)) * [2.0, 1.0, 0.5]


def circle(N=120, seed=0):
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, N)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def bent(rows):
    """Stretched and bent a little, and injective."""
    return np.stack([rows[:, 0], rows[:, 1] + 0.1 * rows[:, 0] ** 2, 2.0 * rows[:, 2]], axis=1)


@pytest.fixture
def coarse(monkeypatch):
    """Three levels of the latent in place of 21, where it is not the numbers that are asked for."""
    own = auditor_module.default_noise_levels
    monkeypatch.setattr(
        auditor_module, "default_noise_levels", lambda X, **options: own(X, **options)[::10]
    )


few_levels = pytest.mark.usefixtures("coarse")


# -- criteria -------------------------------------------------------------------------------------


def powers(rows):
    return np.concatenate([rows, np.abs(rows)], axis=1)


@few_levels
def test_with_features_the_score_is_the_distance_of_decoded_samples():
    X, fresh = sample(200), sample(80, seed=1)
    audit = audited(X, PCA(2), features=powers)
    report, pca = audit.report_, audit.encoder_
    assert audit.criterion_ == report.criterion == "surrogate"
    latent = pca.transform(X)
    found = surrogate_distance(latent, pca, features=powers)
    assert audit.diffusability_ == pytest.approx(-found.value, rel=1e-9)
    assert report.diffusability_stderr == pytest.approx(found.stderr, rel=1e-9)
    assert report.surrogate.value == pytest.approx(found.value, rel=1e-9)
    assert_allclose(report.row_scores, -found.row_values)
    again = surrogate_distance(
        pca.transform(fresh), pca, features=powers, surrogate=fit_surrogate(latent)
    )
    assert audit.score(fresh) == pytest.approx(-again.value, rel=1e-9)
    json.dumps(report.to_dict(), allow_nan=False)


@few_levels
def test_the_mixture_is_fitted_to_more_rows_than_are_decoded():
    X = sample(400)
    decoded = []

    def counted(rows):
        decoded.append(len(rows))
        return powers(rows)

    some = audited(X, bent, decoder=lambda z: z, features=counted, max_points=60)
    used = some.report_.surrogate
    assert (used.n_fitted, used.n_rows, used.n_generated) == (300, 60, 60)
    assert sum(decoded) == 120
    assert some.report_.row_scores.shape == some.report_.rows.shape == (60,)
    half = np.arange(400) % 2.0
    weighed = audited(
        X, bent, decoder=lambda z: z, features=powers, max_points=60, sample_weight=half
    )
    assert weighed.report_.surrogate.n_fitted == 200


@few_levels
def test_a_score_of_more_features_than_rows_warns():
    def wide(rows):
        return np.concatenate([np.abs(rows) ** k for k in range(1, 31)], axis=1)

    with pytest.warns(UnreliableEstimateWarning, match="60 rows do not determine a covariance of"):
        audit = audited(sample(), PCA(2), features=wide)
    with pytest.warns(UnreliableEstimateWarning, match=r"score by the criterion 'surrogate': 30 r"):
        audit.score(sample(30, seed=1))


@few_levels
def test_standardized_latents_are_decoded_in_their_own_unit():
    X = sample(300)
    scaled = audited(X, PCA(2), features=powers, standardize=True)
    plain = audited(X, PCA(2), features=powers)
    error = math.hypot(scaled.report_.diffusability_stderr, plain.report_.diffusability_stderr)
    assert abs(scaled.diffusability_ - plain.diffusability_) < 3 * error
    assert error < 0.5


@few_levels
@pytest.mark.parametrize("criterion", ["viv", "complexity"])
def test_a_criterion_of_the_curve_is_what_its_rows_bring(criterion):
    X = sample(200)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, 200)
    audit = audited(X, bent, criterion=criterion, sample_weight=weights)
    report, curve = audit.report_, audit.latent_curve_
    assert audit.criterion_ == criterion
    assert report.surrogate is None
    mean = np.average(report.row_scores, weights=report.row_weights)
    assert mean == pytest.approx(audit.diffusability_, rel=1e-9)
    if criterion == "viv":
        unit = 3 / (float(curve.noise_levels[0]) / 0.05)
        assert audit.diffusability_ == pytest.approx(-curve.viv * unit, rel=1e-9)
        assert report.diffusability_stderr < 0.7 * curve.viv_stderr * unit  # the unit cancels most
    deviations = report.row_weights * (report.row_scores - mean) / report.row_weights.sum()
    assert np.linalg.norm(deviations) == pytest.approx(report.diffusability_stderr, rel=0.1)


def test_without_features_the_score_is_the_summed_viv_in_every_library(home):
    # of N(0, I_d) in units of the scale: d int_0^inf ds / (1 + s^2) = d pi / 2, more where a
    # direction is added, and less where one stands out
    X, scores = np.random.default_rng(0).standard_normal((400, 3)), []
    quick = LatentGeometryAuditor(score_model="gaussian", noise_levels=LEVELS)
    for of in (X[:, :2], X, X * [4.0, 1.0, 1.0]):
        audit = quick.fit(home(of))
        assert (audit.criterion_, audit.report_.criterion) == ("viv", "viv")
        assert home.owns(audit.report_.row_scores)
        scores.append(audit.diffusability_)
    error = audit.report_.diffusability_stderr
    assert error < 0.05
    # models that have not seen a row denoise it a little worse than the law's own
    assert scores[0] == pytest.approx(-math.pi, rel=0.01)
    assert scores[1] == pytest.approx(-1.5 * math.pi, rel=0.01)
    assert scores[2] > scores[1] + 6 * error


@few_levels
def test_the_error_of_the_viv_is_that_of_a_number_without_unit():
    z = []
    for seed in range(20):
        X = np.random.default_rng(seed).standard_normal((300, 3)) * [4.0, 1.0, 1.0]
        audit = audited(X, criterion="viv", random_state=seed)
        root = np.asarray([4.0, 1.0, 1.0])
        exact = -math.pi / 2 * root.sum() / math.sqrt(np.mean(root**2))
        z.append((audit.diffusability_ - exact) / audit.report_.diffusability_stderr)
    assert np.std(z, ddof=1) == pytest.approx(1.0, abs=0.4)


@few_levels
def test_the_unit_of_the_data_changes_no_criterion():
    X = sample(150)
    for criterion in ("viv", "complexity"):
        one, other = (
            audited(f * X, PCA(2), criterion=criterion, noise_levels=None) for f in (1, 8)
        )
        assert other.diffusability_ == pytest.approx(one.diffusability_, rel=1e-9)
        assert other.score(8 * X[:50]) == pytest.approx(one.score(X[:50]), rel=1e-9)


@few_levels
def test_cached_latents_are_decoded_by_the_decoder_given():
    X = sample(150)
    pca = PCA(2).fit(X)
    cached = audited(pca.transform(X), decoder=pca, features=powers)
    own = audited(X, FrozenEstimator(pca), decoder=pca.inverse_transform, features=powers)
    assert cached.diffusability_ == pytest.approx(own.diffusability_, rel=1e-9)


class Blocks:
    """A torch autoencoder of two-dimensional latents of 4 x 4 images, made when torch is there."""

    def __new__(cls):
        torch = pytest.importorskip("torch")

        class Module(torch.nn.Module):
            def __init__(self):
                super().__init__()
                generator = torch.Generator().manual_seed(0)
                axes = torch.linalg.qr(torch.randn(16, 2, generator=generator))[0]
                self.axes = torch.nn.Parameter(axes)

            def encode(self, x):
                return (x.flatten(1) @ self.axes).reshape(-1, 2, 1, 1)

            def decode(self, z):
                return (z.flatten(1) @ self.axes.T).reshape(-1, 1, 4, 4)

        return Module()


@few_levels
def test_torch_decoders_and_features_are_given_images():
    torch = pytest.importorskip("torch")
    module = Blocks()

    class Features(torch.nn.Module):
        def forward(self, images):
            assert images.shape[1:] == (1, 4, 4)
            return images.abs().mean(dim=3).flatten(1)

    rng = np.random.default_rng(0)
    Z = rng.normal(size=(150, 2)) * [2.0, 1.0]
    X = Z @ module.axes.detach().numpy().T.astype(np.float64)
    encoder = TorchEncoder(module, input_shape=(1, 4, 4))
    by_encoder = audited(X, encoder, features=Features())
    cached = encoder.transform(X)
    by_latents = audited(cached, decoder=module, features=Features(), latent_shape=(2, 1, 1))
    assert by_encoder.diffusability_ == pytest.approx(by_latents.diffusability_, rel=1e-4)
    assert by_encoder.report_.surrogate.n_columns == 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"criterion": "luck"},
            ValueError,
            "criterion is 'luck': it is one of 'auto', 'surrogate'",
        ),
        ({"criterion": "viv", "features": abs}, ValueError, "features were given, which criterion"),
        ({"features": abs}, ValueError, "cached latents cannot decode: pass decoder="),
        ({"features": abs, "encoder": bent}, ValueError, "a function cannot decode: pass decoder="),
        ({"features": abs, "decoder": 3}, TypeError, "decoder is a int without decode"),
        ({"features": 3, "encoder": PCA(2)}, TypeError, "features is a int, which cannot be"),
    ],
)
@few_levels
def test_what_a_criterion_lacks_is_named(options, error, message):
    with pytest.raises(error, match=message):
        audited(sample(), **options)


# -- searches and pipelines -----------------------------------------------------------------------

QUICK = LatentGeometryAuditor(score_model="gaussian", noise_levels=LEVELS, criterion="complexity")


class Noted(TransformerMixin, BaseEstimator):
    """Passes rows on, and notes the first entry of each row that it was fitted on."""

    fits: ClassVar[list] = []

    def __init__(self, keep=3):
        self.keep = keep

    def fit(self, X, y=None):
        Noted.fits.append((self.keep, frozenset(X[:, 0].tolist())))
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X[:, : self.keep]


@few_levels
def test_a_search_over_encoders_takes_the_one_that_diffuses_best():
    X = sample()
    encoders = [PCA(2), PCA(2, whiten=True)]
    cv = KFold(2)
    search = GridSearchCV(QUICK, {"encoder": encoders}, cv=cv).fit(X)
    by_hand = [
        np.mean([audited(X[train], encoder).score(X[test]) for train, test in cv.split(X)])
        for encoder in encoders
    ]
    assert_allclose(search.cv_results_["mean_test_score"], by_hand)
    assert search.best_index_ == np.argmax(by_hand) != 0
    assert search.best_estimator_.encoder_.whiten
    assert not any(hasattr(encoder, "components_") for encoder in encoders)  # clones were fitted


@few_levels
def test_a_search_over_nested_parameters_trains_the_encoder_inside_the_fold():
    X = sample()
    encoder = Pipeline([("noted", Noted()), ("pca", PCA(2))])
    grid = {"encoder__pca__n_components": [1, 2], "encoder__noted__keep": [2, 3]}
    cv = KFold(2, shuffle=True, random_state=0)
    Noted.fits = []
    search = GridSearchCV(LatentGeometryAuditor(encoder, **_options(QUICK)), grid, cv=cv).fit(X)
    trained_on = [frozenset(X[train, 0].tolist()) for train, _ in cv.split(X)]
    everything = frozenset(X[:, 0].tolist())
    expected = [(keep, rows) for keep in (2, 3) for rows in trained_on for _ in (1, 2)]
    expected.append((search.best_params_["encoder__noted__keep"], everything))
    assert sorted(map(_key, Noted.fits)) == sorted(map(_key, expected))
    best = search.best_estimator_
    assert best.encoder_["pca"].n_components == search.best_params_["encoder__pca__n_components"]
    assert best.latent_curve_.n_features == best.encoder_["pca"].n_components
    assert not hasattr(encoder["pca"], "components_")  # the one that was given is untouched


def _options(estimator):
    return {k: v for k, v in estimator.get_params(deep=False).items() if k != "encoder"}


def _key(fit):
    return fit[0], len(fit[1]), sum(fit[1])


@few_levels
def test_a_search_reaches_the_parameters_of_an_encoder():
    X = sample()
    search = GridSearchCV(
        LatentGeometryAuditor(PCA(), **_options(QUICK)), {"encoder__n_components": [1, 3]}, cv=2
    ).fit(X)
    n = search.best_params_["encoder__n_components"]
    assert search.best_estimator_.report_.latent_curve.n_features == n
    assert search.best_estimator_.encoder_.n_components == n
    scores = cross_validate(LatentGeometryAuditor(PCA(n), **_options(QUICK)), X, cv=2)
    assert scores["test_score"].mean() == pytest.approx(search.best_score_)


@few_levels
def test_an_auditor_at_the_end_of_a_pipeline_audits_what_the_steps_make():
    X, fresh = sample(), sample(40, seed=1)
    steps = make_pipeline(StandardScaler(), LatentGeometryAuditor(PCA(2), **_options(QUICK)))
    steps.fit(X)
    scaler = StandardScaler().fit(X)
    alone = audited(scaler.transform(X), PCA(2))
    assert steps[-1].diffusability_ == alone.diffusability_
    assert steps[-1].penalties_.dimensional_compression == pytest.approx(1 / 3)
    assert steps.score(fresh) == pytest.approx(alone.score(scaler.transform(fresh)))
    grid = {"latentgeometryauditor__encoder__n_components": [1, 2]}
    assert GridSearchCV(steps, grid, cv=2).fit(X).n_features_in_ == 3


def torch_encoder():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)

    class Squashed(torch.nn.Module):
        copies = 0

        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 2).double()
            with torch.no_grad():
                self.linear.weight.copy_(torch.tensor([[0.3, 0.1, 0.0], [0.0, 0.5, 0.2]]))
                self.linear.bias.zero_()

        def forward(self, x):
            return torch.tanh(self.linear(x))

        def __deepcopy__(self, memo):
            Squashed.copies += 1
            return Squashed()

    return Squashed()


@few_levels
@pytest.mark.parametrize("wrap", [TorchEncoder, lambda m: FrozenEstimator(TorchEncoder(m))])
def test_a_search_does_not_copy_a_torch_encoder(wrap):
    X, module = sample(), torch_encoder()
    place = module.linear.weight.data_ptr()
    search = GridSearchCV(QUICK, {"encoder": [wrap(module)]}, cv=2, refit=False).fit(X)
    assert type(module).copies == 0
    audit = audited(X, wrap(module))
    part = audit.encoder_ if isinstance(audit.encoder_, TorchEncoder) else audit.encoder_.estimator
    assert part.module is module
    assert module.linear.weight.data_ptr() == place
    folds = [audited(X[train], wrap(module)).score(X[test]) for train, test in KFold(2).split(X)]
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(folds))
    inside = make_pipeline(StandardScaler(), wrap(module))
    GridSearchCV(QUICK, {"encoder": [inside]}, cv=2, refit=False).fit(X)
    assert type(module).copies == 0


@few_levels
def test_an_audit_does_not_copy_a_bare_module_and_gives_what_its_encoder_gives():
    X, module = sample(), torch_encoder()
    bare, wrapped = audited(X, module), audited(X, TorchEncoder(module))
    assert type(module).copies == 0
    assert bare.encoder_.module is module
    assert bare.diffusability_ == wrapped.diffusability_
    assert bare.penalties_.encoder_curvature == wrapped.penalties_.encoder_curvature


# -- rigid maps -----------------------------------------------------------------------------------


@few_levels
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_a_scaled_rigid_map_of_flat_data_costs_nothing(scale):
    X, Q = sample(), rotation(np.random.default_rng(1), 3)
    audit = audited(X, lambda rows: scale * rows @ Q.T + 1.0)
    assert_nothing_is_lost(audit.penalties_)
    assert audit.scale_ == pytest.approx(scale, rel=1e-12)
    assert audit.bi_lipschitz_ == pytest.approx((scale, scale), rel=1e-9)
    assert audit.report_.folds is None


def assert_nothing_is_lost(penalties, rounding=1e-20):
    assert penalties.dimensional_compression == pytest.approx(0.0, abs=1e-12)
    assert penalties.tangential_distortion == pytest.approx(0.0, abs=rounding)
    assert penalties.encoder_curvature_scale_free == pytest.approx(0.0, abs=rounding)


@few_levels
def test_a_scaled_rigid_map_costs_nothing_in_every_library(home):
    X, Q = home(sample(30)), home(2.0 * rotation(np.random.default_rng(1), 3))
    audit = audited(X, lambda rows: rows @ Q)
    assert_nothing_is_lost(audit.penalties_)
    assert home.owns(audit.report_.row_scores)


@few_levels
def test_a_rigid_map_of_curved_data_leaves_only_their_own_curvature(home):
    Q = home(3.0 * rotation(np.random.default_rng(1), 2))
    audit = audited(home(circle(60)), lambda rows: rows @ Q)
    found = audit.penalties_
    assert found.intrinsic_dimension == 1
    assert found.dimensional_compression == 0.0
    assert found.tangential_distortion == pytest.approx(0.0, abs=1e-15)
    assert found.data_curvature == pytest.approx(1.0, rel=0.01)
    assert found.encoder_curvature_outside == pytest.approx(found.data_curvature / 9, rel=1e-6)
    assert found.encoder_curvature_inside == pytest.approx(0.0, abs=1e-6)
    assert audit.scale_ == pytest.approx(3.0)
    assert audit.report_.folds.share == 0.0


@few_levels
def test_rolling_a_line_bends_but_does_not_stretch():
    X = np.random.default_rng(0).uniform(-1, 1, (60, 1))
    bends = []
    for a in (0.3, 0.6, 1.2):
        audit = audited(X, lambda r, a=a: np.c_[np.sin(a * r), 1 - np.cos(a * r)] / a)
        assert audit.penalties_.dimensional_compression == 0.0
        assert audit.penalties_.tangential_distortion == pytest.approx(0.0, abs=1e-20)
        assert audit.penalties_.encoder_curvature == pytest.approx(a**2, rel=1e-6)
        bends.append(audit.diagnosis_["encoder curvature"].weight)
    assert bends == sorted(bends)


def test_stretching_more_costs_more():
    X, scores = sample(), []
    whitened = X / X.std(axis=0)
    for a in (1.0, 1.5, 2.5):
        audit = audited(whitened, lambda rows, a=a: rows * np.asarray([a, 1.0, 1 / a]))
        exact = 2 * (2 * math.log(a)) ** 2 / 3
        assert audit.penalties_.tangential_distortion == pytest.approx(exact, abs=1e-12)
        assert audit.penalties_.encoder_curvature == 0.0
        scores.append(audit.diffusability_)
    assert scores == sorted(scores, reverse=True)


@few_levels
def test_bending_more_costs_more():
    X, found = sample(), []
    for a in (0.02, 0.1, 0.3):
        found.append(audited(X, lambda r, a=a: np.c_[r, a * r[:, :1] ** 2]).penalties_)
    for name in ("tangential_distortion", "encoder_curvature"):
        values = [getattr(each, name) for each in found]
        assert values == sorted(values)
        assert values[0] > 0


# -- invariance -----------------------------------------------------------------------------------

FREE = (
    "dimensional_compression",
    "tangential_distortion",
    "encoder_curvature_scale_free",
    "data_curvature_scale_free",
)


def turned(which, rng):
    """X before the encoder, and Z after it, moved by a similarity; back and forth."""
    Q, shift = rotation(rng, 3), rng.standard_normal(3)
    return {
        "X turned": (lambda X: X @ Q, lambda X: X @ Q.T, lambda Z: Z),
        "X moved": (lambda X: X + shift, lambda X: X - shift, lambda Z: Z),
        "X in other units": (lambda X: 8.0 * X, lambda X: X / 8.0, lambda Z: Z),
        "Z turned": (lambda X: X, lambda X: X, lambda Z: Z @ Q),
        "Z moved": (lambda X: X, lambda X: X, lambda Z: Z + shift),
        "Z in other units": (lambda X: X, lambda X: X, lambda Z: Z / 16.0),
    }[which]


@few_levels
@pytest.mark.parametrize(
    "which", ["X turned", "X moved", "X in other units", "Z turned", "Z moved", "Z in other units"]
)
def test_similarities_of_either_space_change_nothing_that_has_no_unit(which, rng):
    plain = audited(sample(), bent)
    there, back, after = turned(which, rng)
    unit = 8.0 if which == "X in other units" else 1.0
    levels = unit * np.asarray(LEVELS)
    moved = audited(there(sample()), lambda r: after(bent(back(r))), noise_levels=levels)
    for name in FREE:
        before = getattr(plain.penalties_, name)
        assert getattr(moved.penalties_, name) == pytest.approx(before, rel=1e-4, abs=1e-12), name
    assert moved.penalties_.intrinsic_dimension == plain.penalties_.intrinsic_dimension
    L_to_m = [audit.bi_lipschitz_[1] / audit.bi_lipschitz_[0] for audit in (plain, moved)]
    assert L_to_m[1] == pytest.approx(L_to_m[0], rel=1e-4)
    gap = abs(moved.diffusability_ - plain.diffusability_)
    if which == "Z turned":  # the noise is not turned with it
        assert gap < 4 * math.hypot(*(a.report_.diffusability_stderr for a in (plain, moved)))
    else:
        assert gap < 1e-9 * abs(plain.diffusability_) + 1e-9
    assert moved.valid_.tolist() == plain.valid_.tolist() or which == "Z turned"


# -- no function of a row -------------------------------------------------------------------------


def torch_function(function):
    """A NumPy function of rows that computes in torch."""
    torch = pytest.importorskip("torch")
    return lambda rows: function(torch.as_tensor(np.asarray(rows)), torch).numpy()


def dropped(t, torch):
    return torch.nn.functional.dropout(t, training=True)


def batch_normed(t, torch):
    return torch.nn.functional.batch_norm(t, None, None, training=True)


NO_FUNCTIONS = {
    "dropout": (dropped, "two calls give one row different latents .*dropout"),
    "noise": (lambda t, torch: t + torch.randn_like(t), "two calls give one row .*noise"),
    "batch norm": (batch_normed, "changes with the rows beside it .*batch norm.*eval mode"),
    "centred": (lambda t, torch: t - t.mean(0), "changes with the rows beside it"),
    "ranks": (lambda t, torch: t.argsort(0).argsort(0).double(), "changes with the rows beside"),
}


@pytest.mark.parametrize("name", NO_FUNCTIONS)
def test_what_is_no_function_of_a_row_is_refused(name):
    function, message = NO_FUNCTIONS[name]
    with pytest.raises(ValueError, match=f"encoder is no function of a row: .*{message}"):
        audited(sample(), torch_function(function))


@pytest.mark.parametrize("name", ["dropout", "noise"])
def test_torch_functions_that_draw_are_refused(name):
    torch = pytest.importorskip("torch")
    function, _ = NO_FUNCTIONS[name]
    with pytest.raises(ValueError, match="two different latents for one row: it draws them itself"):
        audited(sample(), TorchEncoder(lambda t: function(t, torch)))


@pytest.mark.parametrize("name", ["centred", "batch norm"])
def test_torch_functions_of_the_batch_are_refused(name):
    torch = pytest.importorskip("torch")
    function, _ = NO_FUNCTIONS[name]

    def of_images(t):  # one image alone has statistics too
        return function(
            t.reshape(len(t), 3, 1).repeat(1, 1, 2).mul(torch.tensor([1.0, 2.0])), torch
        )

    with pytest.raises(ValueError, match=r"no function of a row: .*rows beside it"):
        audited(sample(), TorchEncoder(lambda t: of_images(t).reshape(len(t), -1)))


@few_levels
def test_a_module_left_in_training_is_audited_in_eval_mode_and_left_as_it_was():
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5)
    ).double()
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    audit = audited(sample(), module)
    assert "affine" in audit.report_.linear
    assert all(part.training for part in module.modules())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    # the same module called as it stands is refused
    with pytest.raises(ValueError, match="encoder is no function of a row"):
        audited(sample(), lambda rows: module(torch.as_tensor(rows)).detach().numpy())


@few_levels
def test_posterior_samples_are_audited_by_the_geometry_of_their_means():
    torch = pytest.importorskip("torch")

    def encoder():
        return TorchEncoder(lambda t: (t, torch.full_like(t, -6.0)), posterior="sample")

    audit = audited(sample(), encoder())
    found = audit.penalties_
    for name in TERMS:
        assert getattr(found, name) == pytest.approx(0.0, abs=1e-9)
    assert audit.report_.linear.endswith("(means of the posterior)")
    # samples lie farther apart, or nearer, than their means: nothing is proved of them
    assert not audit.report_.bi_lipschitz.exact
    assert {s.status for s in audit.report_.sandwiches.values()} == {"diagnostic"}
    again = audited(sample(), encoder())
    assert again.diffusability_ == audit.diffusability_
    assert again.penalties_.tangential_distortion == found.tangential_distortion


# -- folds and lost directions --------------------------------------------------------------------


@few_levels
def test_a_folded_latent_is_said_to_be_folded():
    audit = audited(sample(), lambda r: np.c_[np.abs(r[:, :1]), r[:, 1:]])
    m, L = audit.bi_lipschitz_
    assert (m, L) == (0.0, pytest.approx(1.0, rel=1e-6))
    assert audit.report_.bi_lipschitz.kind.startswith("folded")
    assert not audit.report_.bi_lipschitz.exact
    assert audit.report_.bi_lipschitz.pair_constants[0] > 0  # no sampled pair met in the latent
    assert 0.3 < audit.report_.folds.share < 0.7
    assert audit.diagnosis_.headline.startswith("folded space")
    assert audit.penalties_.tangential_distortion == pytest.approx(0.0, abs=1e-12)


@few_levels
def test_an_affine_map_folds_curved_data():
    audit = audited(circle(), lambda rows: rows[:, :1])
    assert audit.report_.linear.startswith("affine")
    assert audit.bi_lipschitz_[0] == 0.0
    assert audit.report_.folds.share > 0.05
    assert audit.diagnosis_.headline.startswith("folded space")


@few_levels
def test_flat_data_are_not_folded_by_an_affine_map():
    audit = audited(sample(), PCA(2))
    assert audit.report_.folds is None
    message = "folded space: an affine encoder folds no data that fill their affine hull"
    assert message in audit.diagnosis_.unknown


@few_levels
def test_equal_latents_of_different_rows_have_no_lower_constant():
    audit = audited(sample(), np.sign)
    m, L = audit.bi_lipschitz_
    assert m == 0.0
    assert L > 0
    assert audit.penalties_.dimensional_compression == 1.0
    assert math.isnan(audit.penalties_.tangential_distortion)
    assert audit.diagnosis_.headline.startswith("dimensional compression")


def test_a_constant_channel_is_a_dead_one():
    audit = audited(sample(), lambda r: np.c_[r[:, :2], np.full(len(r), 3.0)])
    assert audit.report_.channels.dead == (2,)
    assert audit.diagnosis_["dead channels"].channels == (2,)
    assert audit.penalties_.dimensional_compression == pytest.approx(1 / 3)
    assert np.all(np.isfinite(audit.latent_curve_.complexity_penalty))


def test_a_latent_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"the encoder's output contains NaN or infinity in 1 of"):
        audited(sample(), lambda r: np.where(r == r.max(), np.nan, r))


@few_levels
def test_an_encoder_that_is_not_defined_beside_its_rows_has_no_derivatives_there():
    X = np.abs(sample())
    X[0, :] = 0.0

    def root(rows):
        with np.errstate(invalid="ignore"):
            return np.sqrt(rows)

    audit = audited(X, root)
    reason = audit.penalties_.reasons["tangential_distortion"]
    assert "no derivatives: they are not finite at" in reason
    assert "of 60 rows, at which or beside which the encoder is not defined" in reason
    assert audit.penalties_.tangential_distortion_stderr > 0


# -- few rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", [None, np.tanh, PCA(3)], ids=["identity", "tanh", "PCA"])
def test_fewer_rows_than_dimensions_are_measured_and_marked(encoder):
    X = np.random.default_rng(0).standard_normal((20, 50))
    audit = audited(X, encoder)
    assert not np.any(audit.valid_)
    assert not audit.report_.bi_lipschitz.exact
    assert audit.penalties_.intrinsic_dimension == 19
    for name in TERMS:
        reason = audit.penalties_.reasons[name]
        assert "20 distinct rows in a hull of dimension 19 are too few to see less" in reason
    assert np.isfinite(audit.diffusability_)


@pytest.mark.parametrize(
    ("N", "encoder"), [(2, None), (2, bent), (3, PCA(1)), (10, None), (10, bent), (10, PCA(1))]
)
def test_a_handful_of_rows_is_audited_and_marked(N, encoder):
    audit = audited(sample(N), encoder)
    assert not np.any(audit.valid_)
    assert np.isfinite(audit.diffusability_)
    assert audit.report_.row_scores.shape == (N,)
    json.dumps(audit.report_.to_dict(), allow_nan=False)


def test_rows_given_twice_are_audited_as_one_of_twice_the_weight():
    X = sample(80)
    once = audited(X, bent)
    twice = audited(np.repeat(X, 2, axis=0), bent)
    assert twice.diffusability_ == pytest.approx(once.diffusability_, rel=1e-9)
    error = once.report_.diffusability_stderr
    assert twice.report_.diffusability_stderr == pytest.approx(error, rel=1e-9)
    assert_allclose(twice.report_.row_scores, np.repeat(once.report_.row_scores, 2), rtol=1e-9)
    assert twice.bi_lipschitz_ == pytest.approx(once.bi_lipschitz_, rel=1e-2)
    ones, twos = once.penalties_, twice.penalties_
    for name in ("tangential_distortion", "encoder_curvature"):
        errors = [getattr(each, f"{name}_stderr") for each in (ones, twos)]
        assert abs(getattr(ones, name) - getattr(twos, name)) < 4 * math.hypot(*errors)
    assert twos.dimensional_compression == 0.0


# -- what each row brings -------------------------------------------------------------------------


def mean_of(report):
    return np.average(report.row_scores, weights=report.row_weights)


@pytest.mark.parametrize("how", ["plain", "twice", "weighted", "none of some", "some", "probes"])
def test_the_score_is_the_mean_of_what_its_rows_bring(how):
    rng = np.random.default_rng(3)
    X, weights, options = sample(200), None, {}
    if how == "twice":
        X = X[rng.integers(0, 120, 200)]
    if how == "weighted":
        weights = rng.uniform(0.5, 2.0, 200)
    if how == "none of some":
        weights = rng.integers(0, 3, 200).astype(float)
    if how == "some":
        options = {"max_points": 150}
    if how == "probes":
        options = {"score_model": lambda y, sigma: -y / (np.asarray([4.0, 1.0, 0.25]) + sigma**2)}
    audit = audited(X, bent if how != "probes" else None, sample_weight=weights, **options)
    report = audit.report_
    curve = audit.latent_curve_
    penalty = curve.complexity_penalty.mean() / 3
    assert mean_of(report) == pytest.approx(-penalty, rel=1e-9)
    floor = np.clip(3 - curve.effective_dimension, 0, 3) ** 2 / 3
    if np.all(curve.complexity_penalty >= floor):
        assert mean_of(report) == pytest.approx(audit.diffusability_, rel=1e-9)
    else:  # the floor raises the penalty
        assert audit.diffusability_ < mean_of(report)
        assert how in ("twice", "none of some")
    assert report.row_scores.shape == report.rows.shape == report.influence.shape
    assert len(report.rows) == report.n_rows
    w = np.ones(report.n_rows) if report.row_weights is None else report.row_weights
    assert report.influence @ ((w.sum() - w) / w.sum()) == pytest.approx(0.0, abs=1e-10)
    if how in ("plain", "weighted", "some"):
        spread = w * (report.row_scores - audit.diffusability_) / w.sum()
        error = report.diffusability_stderr
        assert np.sqrt(np.sum(spread**2)) == pytest.approx(error, rel=0.02)


@few_levels
def test_the_rows_that_were_audited_are_told():
    X = sample(300)
    report = audited(X, bent, max_points=50).report_
    assert sorted(set(report.rows.tolist())) == report.rows.tolist()
    assert (report.n_samples, report.n_rows, len(report.rows)) == (300, 50, 50)
    seen = []
    audited(X, lambda r: seen.append(r) or bent(r), max_points=50)
    assert_array_equal(seen[0], X[report.rows])


@few_levels
def test_influence_follows_x_and_is_that_of_leaving_rows_out(home):
    weights = np.linspace(0.5, 2.0, 30)
    report = audited(home(sample(30), "float32"), None, sample_weight=weights).report_
    assert home.owns(report.row_scores, "float32")
    assert home.owns(report.row_weights, "float32")
    assert home.owns(report.influence, "float32")
    scores, w = (np.asarray([float(v) for v in x]) for x in (report.row_scores, report.row_weights))
    rest = np.arange(30) != 7
    left = np.average(scores[rest], weights=w[rest]) - np.average(scores, weights=w)
    assert float(report.influence[7]) == pytest.approx(left, rel=1e-3, abs=1e-6)


# -- parameters and the report --------------------------------------------------------------------


@few_levels
def test_the_intrinsic_dimension_may_be_given():
    assert audited(circle(), bent_circle).penalties_.intrinsic_dimension == 1
    flat = audited(circle(), bent_circle, intrinsic_dimension=2).penalties_
    assert flat.intrinsic_dimension == 2
    assert flat.data_curvature == 0.0
    assert flat.dimensional_compression == 0.0


def bent_circle(rows):
    return np.stack([rows[:, 0], rows[:, 1] + 0.2 * rows[:, 0] ** 2], axis=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "intrinsic_dimension is 0, but the affine hull of X has dimension 3: .* from 1 to 3"),
        (4, "intrinsic_dimension is 4, but the affine hull of X has dimension 3: .* from 1 to 3"),
        (2.5, "intrinsic_dimension is 2.5: pass a whole number, 'auto' or None"),
        ("many", "intrinsic_dimension is 'many': pass a number, 'auto' or None"),
    ],
)
def test_dimensions_that_the_data_cannot_have_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        audited(sample(40), bent, intrinsic_dimension=given)


@few_levels
def test_cached_latents_are_measured_once(monkeypatch):
    calls = []
    own = auditor_module.fit_curve
    monkeypatch.setattr(
        auditor_module, "fit_curve", lambda X, **k: calls.append(X.shape) or own(X, **k)
    )
    cached = audited(sample())
    assert len(calls) == 1
    assert_array_equal(cached.data_curve_.mmse, cached.matched_curve_.mmse)
    audited(sample(), bent)
    assert len(calls) == 3
    audited(sample(), standardize=True)
    assert len(calls) == 5


def test_sandwiches_are_made_at_a_few_levels():
    audit = audited(sample(), bent, noise_levels=None)
    assert len(audit.data_curve_.noise_levels) == 21
    assert len(audit.sandwich_.noise_levels) == 7
    assert len(audited(sample(), bent).sandwich_.noise_levels) == 2


@few_levels
def test_auto_trains_no_network_and_a_recipe_does(monkeypatch):
    pytest.importorskip("torch")
    from skfisher import crossfit

    monkeypatch.setattr(crossfit, "NETWORK_ROWS", 10)

    class TrainsError(Exception):
        """Raised where a network would be trained."""

    def learn(*args, **options):
        raise TrainsError

    monkeypatch.setattr(crossfit, "learn_scores", learn)
    X = circle(60)
    assert np.isfinite(audited(X, bent_circle, score_model="auto").diffusability_)
    for named in ("network", NetworkRecipe(width=8)):
        with pytest.raises(TrainsError):
            audited(X, bent_circle, score_model=named)


@few_levels
def test_the_encoder_is_given_rows_of_the_library_of_x_whatever_the_device():
    pytest.importorskip("torch")

    def strict(rows):
        assert type(rows) is np.ndarray
        return bent(rows)

    there, here = audited(sample(), strict, device="cpu"), audited(sample(), strict)
    scaled = audited(sample(), PCA(2), device="cpu", standardize=True)
    assert scaled.penalties_.encoder_curvature == 0.0
    assert there.penalties_.encoder_curvature == pytest.approx(here.penalties_.encoder_curvature)
    assert there.diffusability_ == pytest.approx(here.diffusability_, rel=1e-9)
    assert type(there.report_.row_scores) is np.ndarray
    assert type(there.penalties_.pointwise.pushforward) is np.ndarray


def test_the_report_is_strict_json_without_single_rows():
    report = audited(sample(), bent, sample_weight=np.ones(60)).report_
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    for name in ("rows", "row_scores", "row_weights"):
        assert name not in plain
    assert "near_pairs" not in plain["bi_lipschitz"]
    assert {"folds", "channels", "preservation", "diagnosis", "penalties"} <= set(plain)
    assert plain["diagnosis"]["findings"][0]["name"] == report.diagnosis.findings[0].name
    assert plain["folds"]["share"] == report.folds.share
    assert "pairs" not in plain["folds"]
    assert "pointwise" not in plain["penalties"]


@few_levels
def test_an_affine_encoder_with_positive_m_is_never_said_to_be_folded():
    # tangents of curved data turn, which a diagnostic may take for a fold; m is a theorem
    rng = np.random.default_rng(0)
    angle, height = rng.uniform(0, 2 * np.pi, 400), rng.uniform(-1, 1, 400)
    X = np.stack([np.cos(angle), np.sin(angle), height], axis=1)
    audit = audited(X, lambda r: r @ np.diag([1.0, 0.05, 1.0]))
    assert audit.penalties_.intrinsic_dimension == 2
    assert audit.bi_lipschitz_ == (pytest.approx(0.05), pytest.approx(1.0))
    assert audit.report_.bi_lipschitz.exact
