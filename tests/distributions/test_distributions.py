import math
from typing import NamedTuple

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bype.distributions
from bype.core.precision import cumsum_by_products
from bype.distributions.mixtures import DiagonalMixture, IsotropicMixture, inverse_cdf_sample
from bype.distributions.normal import DiagonalNormal

MIXTURES = [IsotropicMixture, DiagonalMixture]


class Case(NamedTuple):
    n_components: int
    dim: int
    spread: float  # of the means about their centre
    offset: float  # of that centre from 0
    ratio: float  # sigma as a fraction of the spread; the smallest sigma if components differ
    where: str  # z: sampled from the mixture, scattered like the means, or ten times as wide
    seed: int


def cases(smallest_ratio):
    def power(low, high):
        return st.floats(math.log10(low), math.log10(high)).map(lambda e: 10.0**e)

    return st.builds(
        Case,
        st.one_of(st.integers(1, 2000), st.integers(1, 20)),
        st.one_of(st.integers(1, 128), st.integers(1, 4)),
        power(1e-3, 1e3),
        st.one_of(st.just(0.0), power(1e-3, 1e3)),
        st.one_of(st.just(smallest_ratio), power(smallest_ratio, 1)),
        st.sampled_from(["near", "between", "far"]),
        st.integers(0, 10**6),
    )


def build(mixture, dtype, case, n_points=8):
    """The mixture of a case and points to evaluate it at; some of the weights are 0."""
    rng = np.random.default_rng(case.seed)
    m, d = case.n_components, case.dim
    centre = case.offset * rng.standard_normal(d)
    loc = centre + case.spread * rng.standard_normal((m, d))
    sigma = case.ratio * case.spread
    scale = np.float64(sigma) if mixture is IsotropicMixture else sigma * 10 ** rng.random((m, d))
    weights = rng.random(m) * (rng.random(m) < 0.8)
    weights[rng.integers(m)] += 0.5
    if case.where == "near":
        own = rng.choice(m, n_points, p=weights / weights.sum())
        z = loc[own] + np.broadcast_to(scale, loc.shape)[own] * rng.standard_normal((n_points, d))
    else:
        z = centre + (10 if case.where == "far" else 1) * case.spread * rng.standard_normal((n_points, d))
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights / weights.sum())
    loc, scale, log_weights, z = (torch.tensor(t, dtype=dtype) for t in (loc, scale, log_weights, z))
    return mixture(loc, scale, log_weights), z


def reference(p, z):
    """log p(z) in float64, row by row, from the mixture's own values. `log_weights` may be one row for all."""
    loc, z = p.loc.detach().double().numpy(), z.detach().double().numpy()
    scale = np.broadcast_to(p.scale.detach().double().numpy(), loc.shape)
    log_weights = np.broadcast_to(p.log_weights.detach().double().numpy(), (len(z), len(loc)))
    terms = [
        log_pi - 0.5 * (((row - loc) / scale) ** 2).sum(1) - np.log(scale).sum(1) - 0.5 * z.shape[1] * np.log(2 * np.pi)
        for row, log_pi in zip(z, log_weights, strict=True)
    ]
    return torch.from_numpy(scipy.special.logsumexp(np.stack(terms), axis=1))


def worst_error(p, z):
    """max |error| / max(1, |log p|)."""
    expected = reference(p, z)
    return ((p.log_prob(z).double() - expected).abs() / expected.abs().clamp(min=1)).max().item()


def some_mixture(mixture, m=7, d=3, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    scale = torch.tensor(0.7, dtype=dtype)
    if mixture is DiagonalMixture:
        scale = torch.rand(m, d, generator=g, dtype=dtype) + 0.3
    return mixture(
        torch.randn(m, d, generator=g, dtype=dtype),
        scale,
        torch.randn(m, generator=g, dtype=dtype).log_softmax(0),
    )


def points(*shape, dtype=torch.float64, seed=1):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# The log-density against a float64 reference


def test_reference_is_scipys_density():
    p, z = build(DiagonalMixture, torch.float64, Case(5, 3, 1.0, 2.0, 0.3, "near", 0))
    density = sum(
        w * scipy.stats.multivariate_normal(mu, np.diag(s**2)).pdf(z)
        for w, mu, s in zip(p.log_weights.exp().numpy(), p.loc.numpy(), p.scale.numpy(), strict=True)
    )
    np.testing.assert_allclose(reference(p, z).exp(), density, rtol=1e-12)


# The last three rows show how float32 degrades as sigma becomes a smaller fraction of the spread of the means.
@pytest.mark.parametrize(
    ("dtype", "smallest_ratio", "tolerance"),
    [
        (torch.float64, 1 / 100, 1e-10),
        (torch.float32, 1 / 10, 1e-4),
        (torch.float32, 1 / 30, 2.5e-4),
        (torch.float32, 1 / 100, 2e-3),
    ],
)
@pytest.mark.parametrize("mixture", MIXTURES)
def test_log_prob_is_the_float64_sum(mixture, dtype, smallest_ratio, tolerance):
    @given(cases(smallest_ratio))
    @example(Case(1, 1, 1.0, 0.0, smallest_ratio, "near", 0))
    @example(Case(2000, 1, 0.01, 0.0, smallest_ratio, "near", 0))  # terms alike, far from the centre
    @example(Case(2000, 128, 1e-3, 1e3, smallest_ratio, "near", 1))  # a millionth of the offset
    @example(Case(2000, 128, 1e3, 1e3, smallest_ratio, "far", 2))
    # |z|^2/sigma^2 is a million times log p.
    @example(Case(971, 60, 0.242 / smallest_ratio, 0.0, smallest_ratio, "near", 3))
    @settings(max_examples=100, derandomize=True, deadline=None, database=None)
    def check(case):
        error = worst_error(*build(mixture, dtype, case))
        assert error <= tolerance

    check()


@pytest.mark.parametrize("mixture", MIXTURES)
def test_gradients_in_float32(mixture):
    p, z = build(mixture, torch.float32, Case(300, 40, 1.0, 5.0, 0.1, "near", 0), n_points=20)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        inputs = [t.to(dtype).requires_grad_() for t in (z, p.loc, p.scale)]
        value = mixture(inputs[1], inputs[2], p.log_weights.to(dtype)).log_prob(inputs[0])
        gradients.append(torch.autograd.grad(value.sum(), inputs))
    for single, double in zip(*gradients, strict=True):
        assert (single - double).norm() <= 1e-3 * double.norm()


@settings(max_examples=50, derandomize=True, deadline=None, database=None)
@given(st.integers(1, 128), st.integers(1, 5), st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 10**6))
def test_diagonal_normal_is_scipys(d, n, log_spread, log_scale, seed):
    rng = np.random.default_rng(seed)
    loc, z = 10**log_spread * rng.standard_normal((2, n, d))
    for shape in ((), (d,), (n, d)):  # one scale, one per direction, one per direction and row
        scale = 10**log_scale * (0.5 + rng.random(shape))
        expected = scipy.stats.norm.logpdf(z, loc, scale).sum(1)
        q = DiagonalNormal(torch.tensor(loc), torch.tensor(scale))
        np.testing.assert_allclose(q.log_prob(torch.tensor(z)), expected, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(q.variance, np.broadcast_to(scale**2, (n, d)))
        assert q.batch_shape == (n,)
        assert q.event_shape == (d,)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_leading_axes_are_kept(mixture):
    p = some_mixture(mixture)
    z = points(4, 5, 3)
    assert p.log_prob(z).shape == (4, 5)
    assert p.log_prob(z[0, 0]).shape == ()
    torch.testing.assert_close(p.log_prob(z)[2, 3], p.log_prob(z[2, 3]))


# Tiles


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize(("rows", "components"), [(1, 1), (7, 5), (1000, 3), (4, 1000)])
def test_tiles_change_nothing(mixture, rows, components, monkeypatch):
    p, z = some_mixture(mixture, m=23), points(19, 3)
    expected = reference(p, z)
    monkeypatch.setitem(bype.distributions.TILES, "cpu", (rows, components))
    torch.testing.assert_close(p.log_prob(z), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_paths_with_and_without_gradient_agree(mixture, dtype, tolerance):
    """In float32 up to the error of the affine form; without a gradient the largest term is evaluated directly."""
    p, z = build(mixture, dtype, Case(2500, 10, 1.0, 1.0, 0.2, "near", 0), n_points=2100)
    tile_rows, tile_components = bype.distributions.TILES["cpu"]
    assert p.n_components > 2 * tile_components
    assert len(z) > tile_rows
    with_grad = p.log_prob(z.clone().requires_grad_())
    assert with_grad.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(p.log_prob(z), with_grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_fifty_thousand_components(mixture):
    p, z = build(mixture, torch.float32, Case(50_000, 8, 1.0, 3.0, 0.3, "near", 0), n_points=20)
    assert worst_error(p, z) <= 1e-5


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_tile_of_zero_weights(mixture, monkeypatch):
    monkeypatch.setitem(bype.distributions.TILES, "cpu", (512, 4))
    p, z = some_mixture(mixture, m=12), points(5, 3)
    for zero in (slice(0, 4), slice(4, 8), slice(8, 12)):
        log_weights = p.log_weights.clone()
        log_weights[zero] = -math.inf
        q = mixture(p.loc, p.scale, log_weights)
        torch.testing.assert_close(q.log_prob(z), reference(q, z), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_nan_stays_in_its_row(mixture, grad):
    p, z = some_mixture(mixture), points(5, 3)
    z[2, 1] = math.nan
    bad = p.log_prob(z.requires_grad_(grad)).detach().isnan()
    assert bad.tolist() == [False, False, True, False, False]


# Mixing weights per row


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_each_row_has_its_own_mixing_weights(mixture, grad):
    p, z = some_mixture(mixture, m=9), points(6, 3)
    log_weights = points(6, 9, seed=2).log_softmax(1)
    log_weights[torch.rand(6, 9, generator=torch.Generator().manual_seed(3)) < 0.4] = -math.inf
    q = mixture(p.loc, p.scale, log_weights)
    assert q.batch_shape == (6,)
    expected = reference(q, z)
    assert expected.isfinite().all()
    torch.testing.assert_close(q.log_prob(z.requires_grad_(grad)).detach(), expected, rtol=1e-13, atol=1e-13)
    # Several samples for each row.
    several = points(4, 6, 3, seed=4)
    torch.testing.assert_close(q.log_prob(several), torch.stack([reference(q, s) for s in several]), rtol=1e-13, atol=0)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_mixing_weights_per_row_in_float32(mixture):
    p, z = build(mixture, torch.float32, Case(971, 60, 2.42, 0.0, 0.1, "near", 3), n_points=8)
    q = mixture(p.loc, p.scale, p.log_weights.expand(8, -1).clone())
    assert worst_error(q, z) <= 1e-4


# Gradients


def inputs(mixture, per_row):
    p, z = some_mixture(mixture, m=5), points(4, 3)
    log_weights = points(4, 5, seed=2).log_softmax(1) if per_row else p.log_weights
    return [t.clone().requires_grad_() for t in (z, p.loc, p.scale, log_weights)]


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_gradients_are_those_of_the_value(mixture, per_row):
    def log_prob(z, loc, scale, log_weights):
        return mixture(loc, scale, log_weights).log_prob(z)

    assert torch.autograd.gradcheck(log_prob, inputs(mixture, per_row))


@pytest.mark.parametrize("which", range(4), ids=["z", "loc", "scale", "log_weights"])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_gradient_of_one_argument_alone(mixture, which):
    z, loc, scale, log_weights = all_of_them = inputs(mixture, per_row=False)
    expected = torch.autograd.grad(mixture(loc, scale, log_weights).log_prob(z).sum(), all_of_them)[which]
    alone = [t if i == which else t.detach() for i, t in enumerate(all_of_them)]
    value = mixture(*alone[1:]).log_prob(alone[0]).sum()
    torch.testing.assert_close(torch.autograd.grad(value, alone[which])[0], expected)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_gradients_pass_a_zero_weight(mixture):
    z, loc, scale, log_weights = inputs(mixture, per_row=False)
    with torch.no_grad():
        log_weights[1] = -math.inf
    grads = torch.autograd.grad(mixture(loc, scale, log_weights).log_prob(z).sum(), [z, loc, scale, log_weights])
    assert all(g.isfinite().all() for g in grads)
    assert (grads[1][1] == 0).all()
    assert (grads[1][0] != 0).all()


def test_rsample_is_reparametrised():
    loc, scale = points(4, 3).requires_grad_(), (0.3 + torch.rand(3, dtype=torch.float64)).requires_grad_()
    z = DiagonalNormal(loc, scale).rsample((5,), generator=torch.Generator().manual_seed(0))
    d_loc, d_scale = torch.autograd.grad(z.sum(), [loc, scale])
    assert z.shape == (5, 4, 3)
    torch.testing.assert_close(d_loc, torch.full_like(loc, 5.0))
    torch.testing.assert_close(d_scale, ((z - loc) / scale).sum((0, 1)).detach())


# A density


def test_rsample_and_log_prob_agrees_with_rsample_and_log_prob():
    """The same samples from the same generator, their density, and its total gradient in both parameters."""
    loc, scale = torch.randn(5, 3, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64) + 0.1
    parameters = [loc.requires_grad_(), scale.requires_grad_()]
    normal, generators = DiagonalNormal(*parameters), [torch.Generator().manual_seed(2) for _ in range(2)]
    z, log_prob = normal.rsample_and_log_prob(generator=generators[0])
    expected_z = normal.rsample(generator=generators[1])
    expected = normal.log_prob(expected_z)
    assert torch.equal(z, expected_z)
    torch.testing.assert_close(log_prob, expected, rtol=1e-13, atol=1e-13)
    factors = torch.rand(5, dtype=torch.float64)
    ours = torch.autograd.grad((log_prob * factors).sum(), parameters, allow_unused=True)
    theirs = torch.autograd.grad((expected * factors).sum(), parameters)
    torch.testing.assert_close(ours[1], theirs[1])
    assert theirs[0].abs().max() < 1e-13
    assert ours[0] is None
    noise = torch.randn(7, 5, 3, dtype=torch.float64)
    z, log_prob = DiagonalNormal(loc, scale[0]).rsample_and_log_prob(noise)
    assert z.shape == noise.shape
    torch.testing.assert_close(log_prob, DiagonalNormal(loc, scale[0]).log_prob(z))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_density_integrates_to_one(mixture):
    p = some_mixture(mixture, m=6, d=1)
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    assert torch.trapezoid(p.log_prob(grid[:, None]).exp(), grid).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 7, 500, 50_001])
def test_cumulative_sums_by_products_are_cumulative_sums(n):
    x = torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64).mul(5).exp()
    torch.testing.assert_close(cumsum_by_products(x), x.cumsum(0), rtol=1e-13, atol=0)
    assert cumsum_by_products(x.float()).dtype == torch.float64


def test_samples_by_inversion_follow_the_weights_and_never_take_a_zero_weight():
    weights, n = torch.tensor([0.0, 3.0, 0.0, 1.0, 6.0, 0.0]), 100_000
    samples = inverse_cdf_sample(weights, n, torch.Generator().manual_seed(0))
    counts, expected = samples.bincount(minlength=6).double(), weights.double() / weights.sum() * n
    assert (counts[weights == 0] == 0).all()
    used = weights > 0
    chi_squared = ((counts - expected)[used] ** 2 / expected[used]).sum().item()
    assert chi_squared < 13.8, counts  # two degrees of freedom: exceeded once in a thousand
    assert torch.equal(samples, inverse_cdf_sample(weights, n, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_order_of_components_does_not_matter(mixture):
    p, z = some_mixture(mixture), points(6, 3)
    order = torch.tensor([3, 0, 6, 5, 1, 2, 4])
    scale = p.scale[order] if p.scale.dim() else p.scale
    q = mixture(p.loc[order], scale, p.log_weights[order])
    torch.testing.assert_close(q.log_prob(z), p.log_prob(z), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_two_halves_are_one_component(mixture):
    p, z = some_mixture(mixture), points(6, 3)
    twice = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])
    log_weights = p.log_weights[twice]
    log_weights[:2] -= math.log(2)
    q = mixture(p.loc[twice], p.scale[twice] if p.scale.dim() else p.scale, log_weights)
    torch.testing.assert_close(q.log_prob(z), p.log_prob(z), rtol=1e-13, atol=1e-13)


# Samples

WEIGHTS = [0.4, 0.25, 0.0, 0.2, 0.1, 0.049, 0.001]


@pytest.fixture(scope="module", params=MIXTURES)
def samples(request):
    p = some_mixture(request.param, m=len(WEIGHTS))
    p = request.param(p.loc, p.scale, torch.tensor(WEIGHTS, dtype=torch.float64).log())
    generator = torch.Generator().manual_seed(0)
    return p, *p.sample((100_000,), generator=generator, return_components=True)


def test_components_are_drawn_by_their_weights(samples):
    _, _, component = samples
    counts = component.bincount(minlength=len(WEIGHTS)).numpy()
    some = np.array(WEIGHTS) > 0
    assert counts[~some].sum() == 0
    assert scipy.stats.chisquare(counts[some], 100_000 * np.array(WEIGHTS)[some]).pvalue > 1e-3


def test_samples_have_the_mixtures_mean_and_covariance(samples):
    p, z, _ = samples
    weights = p.log_weights.exp()
    mean = weights @ p.loc
    spread = torch.diag(weights @ p.scale.square().expand_as(p.loc)) + (weights * (p.loc - mean).T) @ (p.loc - mean)
    assert ((z.mean(0) - mean).abs() <= 4 * z.std(0) / len(z) ** 0.5).all()
    products = (z - mean)[:, :, None] * (z - mean)[:, None, :]
    assert ((products.mean(0) - spread).abs() <= 4 * products.std(0) / len(z) ** 0.5).all()


def test_each_component_samples_from_its_own_normal(samples):
    p, z, component = samples
    for m, weight in enumerate(WEIGHTS):
        own, normal = z[component == m], p.component(m)
        if weight < 0.01:
            continue
        error = 1 / len(own) ** 0.5
        assert ((own.mean(0) - p.loc[m]).abs() <= 4 * error * normal.scale).all()
        assert ((own.var(0) / normal.variance - 1).abs() <= 4 * 2**0.5 * error).all()


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_component_belongs_to_the_sample(mixture):
    p = some_mixture(mixture, m=20)
    p = mixture(1000 * p.loc, p.scale, p.log_weights)
    z, component = p.sample((40, 50), return_components=True, generator=torch.Generator().manual_seed(0))
    assert z.shape == (40, 50, 3)
    assert component.shape == (40, 50)
    assert len(component.unique()) > 10
    nearest = torch.cdist(z.view(-1, 3), p.loc).argmin(1).view(40, 50)
    assert torch.equal(nearest, component)


@pytest.mark.parametrize("make", [lambda: DiagonalNormal(torch.zeros(3), torch.ones(3)), *MIXTURES])
def test_samples_come_from_the_generator_alone(make):
    p = make() if make not in MIXTURES else some_mixture(make)
    before = torch.get_rng_state()
    first, second = (p.sample((4,), generator=torch.Generator().manual_seed(5)) for _ in range(2))
    other = p.sample((4,), generator=torch.Generator().manual_seed(6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert p.sample().shape == (3,)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_samples_carry_no_gradient(mixture):
    p = some_mixture(mixture)
    assert not mixture(p.loc.requires_grad_(), p.scale.requires_grad_(), p.log_weights).sample((2,)).requires_grad


@pytest.mark.parametrize("mixture", MIXTURES)
def test_no_samples_if_each_row_has_its_own_mixing_weights(mixture):
    p = some_mixture(mixture)
    with pytest.raises(ValueError, match=r"log_weights: expected shape \(M,\), .*, got \(4, 7\)"):
        mixture(p.loc, p.scale, p.log_weights.expand(4, -1)).sample((2,))


# Half precision


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_autocast_costs_no_digits(mixture, per_row):
    z, loc, scale, log_weights = (t.detach().float() for t in inputs(mixture, per_row))
    for grad in (False, True):
        z.requires_grad_(grad)
        expected = mixture(loc, scale, log_weights).log_prob(z)
        with torch.autocast("cpu", torch.bfloat16):
            assert (z @ loc.T).dtype == torch.bfloat16
            p = mixture(loc, scale, log_weights).log_prob(z)
        assert p.dtype == torch.float32
        assert torch.equal(p, expected)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_mean_and_variance_are_those_of_the_density(mixture):
    g = torch.Generator().manual_seed(0)
    loc = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    scale = torch.tensor(0.6) if mixture is IsotropicMixture else torch.tensor([[0.2], [0.6], [1.1]])
    p = mixture(loc, scale.double(), torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log())
    x = torch.linspace(-9, 10, 40_001, dtype=torch.float64)
    density = p.log_prob(x[:, None]).exp()
    mean = torch.trapezoid(x * density, x)
    torch.testing.assert_close(p.mean, mean[None], atol=1e-9, rtol=0)
    torch.testing.assert_close(p.variance, torch.trapezoid((x - mean).square() * density, x)[None], atol=1e-9, rtol=0)
    several = mixture(torch.randn(4, 3, generator=g), torch.ones(()) if scale.dim() == 0 else torch.ones(4, 3),
                      torch.randn(5, 4, generator=g).log_softmax(-1))  # fmt: skip
    assert several.mean.shape == several.variance.shape == several.batch_shape + several.event_shape
    assert repr(several) == f"{mixture.__name__}(4 components, event shape (3,))"


def test_entropy_of_a_diagonal_normal_is_torch_s():
    g = torch.Generator().manual_seed(0)
    loc, scale = torch.randn(4, 3, generator=g), torch.rand(4, 3, generator=g) + 0.1
    expected = torch.distributions.Normal(loc, scale).entropy().sum(-1)
    torch.testing.assert_close(DiagonalNormal(loc, scale).entropy(), expected)
    shared = DiagonalNormal(loc, scale[0, 0]).entropy()
    torch.testing.assert_close(shared, torch.distributions.Normal(loc, scale[0, 0]).entropy().sum(-1))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_infinite_values_mixed_dtypes_and_empty_shapes(mixture):
    loc = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    scale = torch.tensor(0.5) if mixture is IsotropicMixture else torch.full((2, 2), 0.5)
    p = mixture(loc, scale, torch.tensor([0.5, 0.5]).log())
    odd = torch.tensor([[math.inf, 0.0], [0.0, -math.inf], [0.0, 0.0]])
    values = p.log_prob(odd)
    assert values[:2].tolist() == [-math.inf, -math.inf], "like torch's Normal"
    assert values[2].isfinite()
    double = p.log_prob(torch.zeros(1, 2, dtype=torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(double[0].float(), values[2])
    z, components = p.sample((0,), return_components=True)
    assert (z.shape, components.shape) == ((0, 2), (0,))
    assert p.sample((3, 0)).shape == (3, 0, 2)
