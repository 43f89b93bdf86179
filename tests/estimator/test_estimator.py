"""The scikit-learn estimator: its contract, and what it computes."""

import math
import pickle
import re

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from torch import nn

import bype
from bype.core.errors import InputError
from bype.networks.tables import Mixed
from bype.training.trainer import Trainer

QUICK = {"max_epochs": 3, "random_state": 0, "n_importance_samples": 20}


@parametrize_with_checks([bype.ByPEVAE(max_epochs=3, random_state=0, n_importance_samples=5)])
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


@pytest.mark.skipif(sklearn.__version__ != "1.9.1", reason="other versions have other checks")
def test_the_documentation_lists_scikit_learn_s_checks(root):
    page = (root / "docs" / "estimator.md").read_text()
    listed = re.findall(r"^- `(check_\w+)`", page.split("<!-- checks -->")[1].split("<!-- end -->")[0], re.M)
    checks = [check for _, check in estimator_checks_generator(bype.ByPEVAE())]
    while any(hasattr(check, "func") for check in checks):
        checks = [getattr(check, "func", check) for check in checks]
    assert listed == sorted({check.__name__ for check in checks})


@pytest.fixture(scope="module")
def pd():
    """The package pandas."""
    return pytest.importorskip("pandas", reason="needs the extra tables")


@pytest.fixture(scope="module", name="X")
def rows():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 2))
    loadings = np.array([[2.0, 0.0, 1.0, 0.5], [0.0, 1.5, -1.0, 0.5]])
    return z @ loadings + 0.5 * rng.normal(size=(300, 4)) + [10, 0, -3, 100]


@pytest.fixture(scope="module")
def fitted(X):
    return bype.ByPEVAE(**QUICK).fit(X)


class _LinearEncoder(nn.Module):
    """The exact posterior mean of factor analysis, and its marginal variances."""

    def __init__(self, table, fa):
        super().__init__()
        columns = table.columns
        self.span, self.sd, self.mean = (
            torch.tensor([getattr(c, name) for c in columns]) for name in ("span", "sd", "mean")
        )
        w, psi = torch.from_numpy(fa.components_), torch.from_numpy(fa.noise_variance_)
        self.cov = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + (w / psi) @ w.T)
        self.gain, self.centre = self.cov @ (w / psi), torch.from_numpy(fa.mean_)

    def forward(self, t):
        x = (t.flatten(1) - 0.5) * self.span * self.sd + self.mean
        mean = (x.double() - self.centre) @ self.gain.T
        return mean.to(t.dtype), self.cov.diagonal().log().expand_as(mean).to(t.dtype)


class _LinearDecoder(nn.Module):
    def __init__(self, table, fa):
        super().__init__()
        self.sd, self.mean = (torch.tensor([getattr(c, n) for c in table.columns]) for n in ("sd", "mean"))
        self.w, self.centre = torch.from_numpy(fa.components_), torch.from_numpy(fa.mean_)

    def forward(self, z):
        return ((z.double() @ self.w + self.centre - self.mean) / self.sd).to(z.dtype)


def test_a_linear_model_has_the_likelihood_of_factor_analysis(X, fitted):
    fa = FactorAnalysis(2, tol=1e-8, max_iter=5000).fit(X)
    estimator, table = clone(fitted).fit(X), fitted.table_
    likelihood = Mixed(table)
    with torch.no_grad():
        scale = torch.tensor([math.sqrt(v) / c.sd for v, c in zip(fa.noise_variance_, table.columns, strict=True)])
        likelihood.raw_scale.copy_((scale - Mixed.floor).expm1().log() / 10)
    model = bype.wrap(
        _LinearEncoder(table, fa), _LinearDecoder(table, fa), latent_dim=2, image_shape=table.shape,
        likelihood=likelihood,
    )  # fmt: skip
    estimator.model_ = model.double().eval()
    estimator.n_importance_samples = 4000
    np.testing.assert_allclose(estimator.score_samples(X[:50]), fa.score_samples(X[:50]), atol=0.15)
    assert estimator.score(X) == pytest.approx(fa.score(X), abs=0.01)


def test_densities_are_in_the_units_of_x(X, fitted):
    scaled = clone(fitted).fit(10 * X)
    np.testing.assert_allclose(scaled.score_samples(10 * X), fitted.score_samples(X) - 4 * math.log(10), atol=1e-3)


def test_a_row_s_figures_do_not_depend_on_the_others(X, fitted):
    for method in (fitted.score_samples, fitted.transform, fitted.predict):
        np.testing.assert_allclose(method(X)[[7, 3]], method(X[[7, 3]]), rtol=1e-10)


def test_a_constant_column_is_filled_in_and_adds_no_density(X, fitted):
    more = np.insert(X, 1, 5.0, axis=1)
    model = clone(fitted).fit(more)
    np.testing.assert_allclose(model.score_samples(more), fitted.score_samples(X), rtol=1e-6)
    assert (model.sample(20)[0][:, 1] == 5).all()


def test_training_raises_the_likelihood_and_samples_have_the_moments_of_x(X):
    model = bype.ByPEVAE(random_state=0, max_epochs=150).fit(X)
    assert model.score(X) > bype.ByPEVAE(random_state=0, max_epochs=2).fit(X).score(X) + 0.3
    rows, components = model.sample(2000)
    np.testing.assert_allclose(rows.mean(0), X.mean(0), atol=0.4)
    np.testing.assert_allclose(rows.std(0), X.std(0), rtol=0.35)
    assert components.max() < 135
    assert np.abs(model.inverse_transform(model.transform(X)) - X).mean() < X.std(0).mean()


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
def test_every_prior_survives_a_file(X, prior, tmp_path):
    model = bype.ByPEVAE(prior=prior, n_components=7, **QUICK).fit(X)
    model.save(tmp_path / "model.safetensors")
    again = bype.ByPEVAE.load(tmp_path / "model.safetensors")
    assert again.get_params() == model.get_params() | {"categorical": []}  # a list in JSON
    assert again.history_ == model.history_
    assert again.n_iter_ == model.n_iter_
    for method in ("score_samples", "transform", "predict"):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(model, method)(X))
    assert model.predict(X).max() < {"standard": 1, "exemplar": 270}.get(prior, 7)


def test_a_file_of_something_else_is_refused(tmp_path):
    bype.build_model(bype.load("digits"), prior="standard").save(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"written by ByPEVAE\.save"):
        bype.ByPEVAE.load(tmp_path / "model.safetensors")


def test_the_pseudocoreset_is_in_the_units_of_x(X):
    model = bype.ByPEVAE(coreset="none", n_components=9, **QUICK).fit(X)
    points, weights = model.pseudocoreset_
    assert weights.sum() == pytest.approx(270)
    assert all(np.abs(X - point).sum(1).min() < 1e-4 for point in points), "fixed points are training rows"
    with pytest.raises(AttributeError, match="prior 'bype'"):
        bype.ByPEVAE(prior="standard", **QUICK).fit(X).pseudocoreset_  # noqa: B018


def test_warm_start_continues_with_the_networks_of_the_last_fit(X):
    model = bype.ByPEVAE(warm_start=True, **QUICK).fit(X)
    before = {k: v.clone() for k, v in model.model_.state_dict().items()}
    first = model.score(X)
    model.set_params(max_epochs=30).fit(X)
    assert model.score(X) > first
    cold = bype.ByPEVAE(**QUICK).fit(X).model_.state_dict()
    assert all(torch.equal(before[k], cold[k]) for k in before)


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
@pytest.mark.parametrize("coreset", ["paper", "elbo"])
def test_warm_start_with_other_rows_has_a_prior_that_stands_for_these(X, prior, coreset, tmp_path):
    if coreset == "elbo" and prior != "bype":
        pytest.skip("strategies are of the prior bype")
    options = QUICK | {"prior": prior, "coreset": coreset, "n_components": 20, "warm_start": True, "max_epochs": 2}
    model = bype.ByPEVAE(**options).fit(X)
    weights = None if prior != "bype" else model.pseudocoreset_.weights / 270
    model.set_params(learning_rate=1e-12).fit(X[:100])  # 90 rows to train on, and networks that stay
    if weights is not None:
        assert model.pseudocoreset_.weights.sum() == pytest.approx(90)
        np.testing.assert_allclose(model.pseudocoreset_.weights / 90, weights, rtol=0.01)
    if prior == "exemplar":
        assert model.model_.prior.n_data == 90
        assert model.sample(50)[1].max() < 90
    model.save(tmp_path / "model.safetensors")
    again = bype.ByPEVAE.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    model.fit(X)  # and with more rows
    if weights is not None:
        assert model.pseudocoreset_.weights.sum() == pytest.approx(270)


def test_warm_start_needs_as_many_rows_as_points_and_the_same_prior(X):
    model = bype.ByPEVAE(warm_start=True, n_components=50, **QUICK).fit(X)
    before = model.score(X)
    with pytest.raises(InputError, match="at least the 50 training rows that the prior's points stand for, got 36"):
        model.fit(X[:40])
    for other in ({"prior": "vamp"}, {"coreset": "elbo"}, {"likelihood": "mixed"}):
        with pytest.raises(InputError, match="as in the last fit"):
            clone(model).fit(X).set_params(**other).fit(X)
    assert model.score(X) == before, "a refused fit leaves the model as it was"


def test_a_pickled_estimator_scores_as_before(X, fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))
    assert type(again) is bype.ByPEVAE


def test_an_interrupted_fit_keeps_the_best_epoch(X, monkeypatch):
    run = Trainer.run_epoch

    def interrupted(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        return run(self)

    monkeypatch.setattr(Trainer, "run_epoch", interrupted)
    with pytest.warns(ConvergenceWarning, match="after 2 epochs; the best one is kept"):
        model = bype.ByPEVAE(**QUICK).fit(X)
    assert model.n_iter_ == 2
    assert np.isfinite(model.score(X))


def test_the_seed_may_be_a_number_a_generator_or_none(X):
    def fitted_with(state):
        return bype.ByPEVAE(**(QUICK | {"random_state": state})).fit(X).transform(X)

    np.testing.assert_array_equal(fitted_with(3), fitted_with(3))
    np.testing.assert_array_equal(fitted_with(np.random.RandomState(3)), fitted_with(np.random.RandomState(3)))
    state = np.random.RandomState(3)
    assert not np.array_equal(fitted_with(state), fitted_with(state)), "a generator moves on"
    assert not np.array_equal(fitted_with(None), fitted_with(None))


def test_verbose_prints_each_epoch(X, capsys):
    bype.ByPEVAE(**QUICK).fit(X)
    assert capsys.readouterr().out == ""
    model = bype.ByPEVAE(verbose=1, **QUICK).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"epoch {i + 1}" for i in range(model.n_iter_)]
    assert f"validation loss {model.history_['val_loss'][-1]:.4f}" in lines[-1]


def test_it_works_with_pipelines_searches_and_frames(X, pd):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    model = bype.ByPEVAE(**QUICK).set_output(transform="pandas").fit(frame)
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert model.transform(frame).columns.tolist() == model.get_feature_names_out().tolist() == ["bypevae0", "bypevae1"]
    with pytest.raises(ValueError, match="feature names"):
        model.transform(frame.rename(columns={"a": "e"}))
    pipeline = make_pipeline(StandardScaler(), bype.ByPEVAE(**QUICK))
    assert pipeline.fit(X).transform(X).shape == (300, 2)
    assert len(cross_val_score(bype.ByPEVAE(**QUICK), X, cv=2)) == 2
    search = GridSearchCV(bype.ByPEVAE(**QUICK), {"latent_dim": [1, 2]}, cv=2, n_jobs=2).fit(X)
    assert search.best_params_["latent_dim"] in (1, 2)
    assert "ByPEVAE" in model._repr_html_()


def test_mixed_tables(X, pd, tmp_path):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "height": X[:, 0],
            "smoker": rng.random(300) < 0.3,
            "town": rng.choice(["A", "B", "C"], 300, p=[0.7, 0.2, 0.1]),
        }
    )
    model = bype.ByPEVAE(likelihood="mixed", **(QUICK | {"max_epochs": 60})).fit(frame)
    assert [c.kind for c in model.table_.columns] == ["normal", "binary", "categorical"]
    rows, _ = model.sample(1000)
    assert set(rows[:, 2]) <= {"A", "B", "C"}
    assert np.mean(rows[:, 2] == "A") == pytest.approx(0.7, abs=0.12)
    model.save(tmp_path / "m.safetensors")
    again = bype.ByPEVAE.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.score_samples(frame), model.score_samples(frame))
    with pytest.raises(InputError, match="column town: expected one of A, B, C, got D"):
        model.transform(frame.assign(town="D"))


def test_missing_values_are_named(X, pd):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    frame.loc[3, "c"] = np.nan
    with pytest.raises(InputError, match=r"column c: .*NaN.* row 3; drop these rows, or fill them"):
        bype.ByPEVAE(**QUICK).fit(frame)


def test_images_have_densities_in_the_units_of_their_pixels():
    data = bype.load("digits").train.first(200)
    pixels = (data.scaled() * 255).round().byte().flatten(1).numpy()
    as_bytes = bype.ByPEVAE(image_shape=(8, 8), n_components=5, **QUICK).fit(pixels)
    as_floats = clone(as_bytes).fit((pixels + 0.5) / 256)
    expected = as_floats.score_samples((pixels + 0.5) / 256) - 64 * math.log(256)
    np.testing.assert_allclose(as_bytes.score_samples(pixels), expected, rtol=1e-3)
    assert as_bytes.sample(3)[0].shape == (3, 64)
    with pytest.raises(InputError, match=r"pixels in \[0, 1\]"):
        clone(as_bytes).fit(pixels.astype(float))
    with pytest.raises(InputError, match="image_shape"):
        bype.ByPEVAE(image_shape=(8, 9), **QUICK).fit(pixels)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prior": "magic"}, {"likelihood": "magic"}, {"likelihood": "mse"}, {"recipe": "magic"}, {"latent_dim": 0},
        {"validation_fraction": 1.0}, {"max_epochs": 0}, {"n_importance_samples": 0}, {"arch": "hvae"},
        {"device": "tpu"},
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit_are_refused(X, wrong):
    with pytest.raises(InputError):
        bype.ByPEVAE(**(QUICK | wrong)).fit(X)
