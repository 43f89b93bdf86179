"""Tables of real, binary and categorical columns: their density beside scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, GaussianNB
from torch import nn

import bype
from bype.networks.tables import Mixed

pd = pytest.importorskip("pandas", reason="needs the extra tables")

QUICK = {"max_epochs": 2, "random_state": 0, "n_importance_samples": 5, "n_components": 8, "hidden_dim": 8}


class _PriorEncoder(nn.Module):
    """q(z|x) = N(0, I)."""

    def forward(self, rows):
        zero = rows.new_zeros(len(rows), 2)
        return zero, zero


class _ConstantDecoder(nn.Module):
    """The same parameters of p(x|z) for every z."""

    def __init__(self, values):
        super().__init__()
        self.register_buffer("values", torch.tensor(values))

    def forward(self, z):
        return self.values.expand(len(z), -1).to(z.dtype)


@pytest.fixture(scope="module", name="frame")
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": rng.normal(170, 10, 200),
            "smoker": rng.random(200) < 0.3,
            "weight": rng.gamma(5, 14, 200),
            "town": rng.choice(["A", "B", "C"], 200, p=[0.6, 0.3, 0.1]),
            "grade": rng.integers(1, 5, 200),
            "unit": 7.0,
        }
    )


def test_a_model_of_independent_columns_has_the_scores_of_naive_bayes(frame):
    estimator = bype.ByPEVAE(likelihood="mixed", categorical=["grade"], **QUICK).fit(frame)
    one, nothing = np.zeros(len(frame)), 1e-9
    real, towns = frame[["height", "weight"]], frame["town"].map({"A": 0, "B": 1, "C": 2})
    gaussian = GaussianNB(var_smoothing=0).fit(real, one)
    bernoulli = BernoulliNB(alpha=nothing).fit(frame[["smoker"]], one)
    categorical = CategoricalNB(alpha=nothing).fit(np.stack([towns, frame["grade"] - 1], 1), one)
    expected = (
        gaussian.predict_joint_log_proba(real)
        + bernoulli.predict_joint_log_proba(frame[["smoker"]])
        + categorical.predict_joint_log_proba(np.stack([towns, frame["grade"] - 1], 1))
    )[:, 0]

    columns = {c.name: c for c in estimator.table_.columns}
    assert [c.kind for c in columns.values()] == [
        "normal", "binary", "normal", "categorical", "categorical", "constant",
    ]  # fmt: skip
    height, weight = columns["height"], columns["weight"]
    p = bernoulli.feature_log_prob_[0, 0]
    values = [
        (gaussian.theta_[0, 0] - height.mean) / height.sd, p - np.log1p(-np.exp(p)),
        (gaussian.theta_[0, 1] - weight.mean) / weight.sd, *categorical.feature_log_prob_[0][0],
        *categorical.feature_log_prob_[1][0],
    ]  # fmt: skip
    likelihood = Mixed(estimator.table_)
    with torch.no_grad():
        scale = torch.tensor(np.sqrt(gaussian.var_[0]) / [height.sd, weight.sd])
        likelihood.raw_scale.copy_((scale - Mixed.floor).expm1().log() / 10)
    model = bype.wrap(
        _PriorEncoder(), _ConstantDecoder(values), latent_dim=2, image_shape=estimator.table_.shape,
        likelihood=likelihood,
    )  # fmt: skip
    estimator.model_ = model.double().eval()
    np.testing.assert_allclose(estimator.score_samples(frame), expected, atol=1e-5)


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
def test_rows_come_back_in_the_types_and_the_order_of_the_table(frame, prior):
    model = bype.ByPEVAE(prior=prior, likelihood="mixed", categorical=["grade"], **QUICK).fit(frame)
    rows, _ = model.sample(30)
    for name, values in zip(frame.columns, rows.T, strict=True):
        if name not in ("height", "weight"):
            assert set(values) <= set(frame[name]), name
    again = model.inverse_transform(model.transform(frame))
    assert again.shape == frame.shape
    assert set(again[:, 3]) <= {"A", "B", "C"}


def test_a_binary_table_alone_is_one_of_numbers():
    X = (np.random.default_rng(0).random((80, 3)) < [0.2, 0.5, 0.9]).astype(float)
    model = bype.ByPEVAE(likelihood="mixed", **QUICK).fit(X)
    assert [c.kind for c in model.table_.columns] == ["binary"] * 3
    rows, _ = model.sample(20)
    assert rows.dtype == np.float64
    assert set(rows.ravel()) <= {0.0, 1.0}
    assert (model.score_samples(X) < 0).all(), "a probability, no density"
