"""Refitting the prior after training: networks fixed, other components, sigma chosen on validation examples.

Evaluating with components other than the M points of training requires no further training. The components are the
encoded training examples (all, or a subset), or those of a mixture fitted by EM to samples of the aggregate posterior;
then only sigma is chosen. The result is an additional prior; the trained prior stays unchanged.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.precision import flush_denormals
from bype.core.sampling import random_subset
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.data.coerce import DataLike
from bype.data.images import Dataset, Images
from bype.distributions.em import Report, best_scale, fit_em, log_prob_at_scales
from bype.distributions.normal import DiagonalNormal
from bype.models.observing import model_inputs
from bype.models.vae import VAE
from bype.priors.fitted import FittedMixture

VALIDATION_ITEMS, VALIDATION_DRAWS = 1000, 500
HELD_BYTES = 2**31  # of posterior means and scales that are held for EM; beyond it, each step encodes again


def refit(
    model: VAE,
    data: DataLike,
    *,
    points: int | None = None,
    em: int | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> FittedMixture:
    """Fits another prior to a trained model; the networks stay unchanged.

    Args:
        model: The trained model.
        data: The data it was trained on, in any form that `bype.train` takes.
        points: Number of training examples, drawn without replacement, that become components; by default all.
        em: Instead, number of components K of a mixture fitted by EM to samples of q(z|x_n) over the training examples.
        seed: Seed of the random draws.
        report: Called with progress messages, one line each.

    Raises:
        InputError: If `points` or `em` does not fit the data, or both are given.
    """
    data = model.checked_data(data)
    n = len(data.train)
    if points is not None and em is not None:
        raise InputError("refit: expected at most one of --points and --em, got both")
    for flag, count in (("--points", points), ("--em", em)):
        if count is not None and not 1 <= count <= n:
            raise InputError(f"{flag}: expected a number from 1 to {n}, the number of training examples, got {count}")
    report = report or (lambda line: None)
    model.eval()
    device = data.train.pixels.device
    generator = torch.Generator(device).manual_seed(seed)
    with fixed_torch_state(grad=False), flush_denormals():
        if em is not None:
            generator = generator.manual_seed(seed + Stream.EM)
            samples = AggregatePosterior(model, data.train, generator)
            loc, log_weights, scale = fit_em(samples, em, generator, report=report)
            items = None
        else:
            items = torch.arange(n, device=device)
            if points is not None:
                items = random_subset(n, points, generator, device).sort().values
            chosen = data.train if points is None else data.train[items]
            loc = model.encoder.means(chosen.batches(500, dtype=model.dtype))  # not binarised, as a prior's points
            log_weights = loc.new_full((len(loc),), 1 / len(loc)).log()
            # The start of the search. A custom prior may have one scale per latent.
            scale = getattr(model.prior, "log_scale", loc.new_zeros(())).mean().exp().item()
        scale = choose_scale(model, data, loc, log_weights, scale, seed, report)
    images = None if items is None else data.train
    return FittedMixture(loc, log_weights, loc.new_tensor(scale).log(), images, items)


class AggregatePosterior:
    """Samples of the aggregate posterior, `per_item` samples of q(z|x_n) per training example, in tiles (n_i, D).

    Each iteration gives the same samples: the generator is set back to its state at the start. The samples are never
    held together. The means and scales of q(z|x_n) are, if they fit into `held` bytes (8 N D in float32); otherwise
    each iteration encodes the training examples again.

    Args:
        model: The model.
        images: The training examples.
        generator: The generator of the noise; after an iteration, it is in the state after all samples.
        per_item: Samples per training example.
        held: The largest size of the means and scales that is held, in bytes; by default 2 GiB.
    """

    def __init__(
        self,
        model: VAE,
        images: Images,
        generator: torch.Generator,
        *,
        per_item: int = 5,
        held: int | None = None,
    ) -> None:
        self.model, self.images, self.generator, self.per_item = model, images, generator, per_item
        self.start = generator.get_state()
        size = 2 * len(images) * model.encoder.latent_dim * model.dtype.itemsize
        self.posteriors = list(self._encoded()) if size <= (HELD_BYTES if held is None else held) else None

    def _encoded(self) -> Iterator[DiagonalNormal]:
        for x in model_inputs(self.model, self.images, Stream.BINARISATION):
            yield self.model.encoder(x)

    def __iter__(self) -> Iterator[Tensor]:
        """The samples of about 500 training examples at a time."""
        self.generator.set_state(self.start)
        for q in self._encoded() if self.posteriors is None else self.posteriors:
            yield q.sample((self.per_item,), generator=self.generator).flatten(0, 1)


def choose_scale(
    model: VAE, data: Dataset, loc: Tensor, log_weights: Tensor, start: float, seed: int, report: Report
) -> float:
    """Chooses the sigma with the highest mean importance-weighted bound over the first 1000 validation examples.

    All candidates use the same 500 samples of q(z|x) per example; terms that do not depend on sigma are computed once.
    """
    generator = torch.Generator(loc.device).manual_seed(seed)
    latent, rest = [], []  # z, (s, b, D), and log p(x|z) - log q(z|x), (s, b)
    for x in model_inputs(model, data.validation.first(VALIDATION_ITEMS), seed + Stream.BINARISATION, batch_size=10):
        q = model.encoder(x)
        z = q.sample((VALIDATION_DRAWS,), generator=generator)
        latent.append(z)
        rest.append(model.likelihood_terms(x, z, generator=generator).log_weight - q.log_prob(z))
    z, log_rest = torch.cat(latent, 1), torch.cat(rest, 1)
    rows = z.flatten(0, 1)

    def bounds(scales: Tensor) -> Tensor:
        log_p = log_prob_at_scales(rows, loc, log_weights, scales).view(len(scales), *log_rest.shape)
        return (log_p + log_rest).logsumexp(1).double().mean(1) - math.log(VALIDATION_DRAWS)

    return best_scale(bounds, start, loc, report)
