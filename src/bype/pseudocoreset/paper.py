"""Strategy `paper`: Algorithm 2 of the paper."""

from typing import NamedTuple, Self

import torch

from bype.core.config import Config
from bype.core.graphs import Capture, Step, capture
from bype.core.sampling import random_subset
from bype.data.images import Images
from bype.models.vae import VAE
from bype.pseudocoreset.adam import Adam
from bype.pseudocoreset.gradient import coreset_gradient
from bype.pseudocoreset.simplex import project_to_simplex
from bype.pseudocoreset.strategy import Strategy, data_batch, pseudocoreset


class Prepared(NamedTuple):
    """A prepared inner step of `Algorithm2`, and the objects it was prepared for."""

    key: tuple[int, ...]
    known: tuple[object, ...]
    run: Step
    adam: Adam


class Algorithm2(Strategy):
    """Strategy `paper`: Algorithm 2, `steps` inner steps per update.

    After each step, U is clamped to [0, 1] and w is projected onto {w >= 0, sum w = N}. Adam's moments are reset at
    every update. The paper specifies neither the optimiser nor the projection; Adam and the Euclidean projection are
    our choices.

    Source: Algorithm 2 of ByPE-VAE (Ai et al., 2021), https://arxiv.org/abs/2107.09286

    Args:
        steps: Inner steps per update; 1 is Algorithm 2 as printed.
        lr: Adam's learning rate for U; the rate for w is lr N/M.
        n_samples: Number of latents S sampled in every step; by default M.
        batch_size: Number of data points B per step, sampled without replacement.
        z1_draws: With two levels, samples of z1 for each latent z2 (`TwoLevelVAE.likelihood`, a biased estimate).
    """

    remedy = "try a lower --coreset-lr"

    def __init__(
        self,
        steps: int = 100,
        lr: float = 1e-3,
        n_samples: int | None = None,
        batch_size: int = 100,
        z1_draws: int = 1,
    ) -> None:
        self.steps, self.lr, self.n_samples, self.batch_size = steps, lr, n_samples, batch_size
        self.z1_draws = z1_draws
        self.prepared: Prepared | None = None

    @classmethod
    def from_options(cls, options: Config) -> Self:
        """Makes the strategy from the options of a run; options that are None keep their defaults."""
        own = cls(n_samples=options.coreset_samples, z1_draws=options.coreset_z1 or 1)
        own.steps = own.steps if options.coreset_steps is None else options.coreset_steps
        own.lr = own.lr if options.coreset_lr is None else options.coreset_lr
        return own

    @torch.no_grad()
    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Runs the inner steps of Algorithm 2; returns no metrics."""
        points = pseudocoreset(model)
        self.invalidated_graphs = False
        # On CUDA the inner step is captured once for these objects. `Prepared` keeps them alive: their ids stay unique.
        known = (model, data, generator)
        key = (*map(id, known), points.pseudo_inputs.data_ptr(), points.weights.data_ptr())
        if self.prepared is None or self.prepared.key != key:
            step, adam = self.prepare(model, data, generator)
            mutated = [points.pseudo_inputs, points.weights, *adam.tensors()]
            captured = capture(step, mutated, generator, "step (ii)") if self.graph else Capture(step, failed=False)
            self.invalidated_graphs = captured.failed
            self.prepared = Prepared(key, known, captured.run, adam)
        self.prepared.adam.reset()
        for _ in range(self.steps):
            self.prepared.run()
        return {}

    def prepare(self, model: VAE, data: Images, generator: torch.Generator) -> tuple[Step, Adam]:
        """Returns one eager inner step, and the optimiser that holds its moments."""
        points = pseudocoreset(model)
        u, w = points.pseudo_inputs, points.weights
        m, n = len(w), points.n_data
        adam, rates = Adam([u, w]), [self.lr, self.lr * n / m]

        def step() -> None:
            z = model.prior(model.encoder).sample((self.n_samples or m,), generator=generator)
            index = random_subset(len(data), min(self.batch_size, len(data)), generator, w.device)
            likelihoods = model.likelihood(z, self.z1_draws, generator=generator)
            gradient = coreset_gradient(likelihoods, data_batch(model, data, index, generator), u, w, n)
            adam.step(gradient, rates)
            u.clamp_(0, 1)
            w.copy_(project_to_simplex(w, n))

        return step, adam
