"""A VAE with two levels of latents."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.distributions.pixels import EqualMixture
from bype.models.vae import VAE, LikelihoodTerms
from bype.networks.base import Decoder, Encoder
from bype.networks.lower import LowerEncoder, LowerPrior
from bype.priors.base import Prior


class TwoLevelVAE(VAE):
    r"""Two levels of latents: q(z2|x) q(z1|x,z2), and p(x|z1,z2) p(z1|z2) p(z2). The prior is over z2.

    The estimate :math:`\log p(x|z_1,z_2) - \log q(z_1|x,z_2) + \log p(z_1|z_2)`, with z1 sampled from q, replaces the
    log p(x|z) of one level, so that importance weights cover both levels.

    Source: VAE with a VampPrior (Tomczak and Welling, 2018), section 4, https://arxiv.org/abs/1705.07120

    Args:
        encoder: Returns q(z2|x).
        decoder: Returns p(x|z1,z2), given the concatenation of z1 and z2.
        prior: Returns p(z2), given the encoder.
        lower_encoder: Returns q(z1|x,z2), given x and z2.
        lower_prior: Returns p(z1|z2).
        reencode: As for `VAE`.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        prior: Prior,
        lower_encoder: LowerEncoder,
        lower_prior: LowerPrior,
        *,
        reencode: float = 1.0,
    ) -> None:
        super().__init__(encoder, decoder, prior, reencode=reencode)
        self.lower_encoder, self.lower_prior = lower_encoder, lower_prior
        self.lower_dim = lower_prior.latent_dim

    def likelihood_terms(
        self,
        x: Tensor,
        z: Tensor,
        noise: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        path: bool = False,
    ) -> LikelihoodTerms:
        """log p(x|z1,z2) and log q(z1|x,z2) - log p(z1|z2) in nats, at one sample of z1 for each z2."""
        q, p = self.lower_encoder(x, z), self.lower_prior(z)
        lower, log_q = q.rsample_and_log_prob(noise, generator=generator, path=path)
        return LikelihoodTerms(self._decode(lower, z).log_prob(x), log_q - p.log_prob(lower))

    def likelihood(self, z: Tensor, n_draws: int = 1, *, generator: torch.Generator | None = None) -> Distribution:
        r"""p(x|z2) estimated with L samples from p(z1|z2), the same samples for every image, batch shape (S,).

        .. math:: \log p(x|z_2) \approx \log \frac{1}{L} \sum_{l=1}^L p(x|z_1^l, z_2), \qquad z_1^l \sim p(z_1|z_2)

        The estimate is biased: its expectation is below log p(x|z2) (Jensen's inequality) by about
        Var[p(x|z1,z2)] / (2 L p(x|z2)^2), which is large if few z1 explain x. With L = 1 it is log p(x|z1,z2), and
        linear in x if the decoder's log-likelihood is.

        Args:
            z: z2, (S, D).
            n_draws: The number of samples L.
            generator: The generator of z1.
        """
        p = self.lower_prior(z)
        if n_draws == 1:
            return self._decode(p.sample(generator=generator), z)
        return EqualMixture(self._decode(p.sample((n_draws,), generator=generator), z))

    def generate(
        self,
        z: Tensor,
        noise: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        sample_lower: bool = True,
    ) -> Tensor:
        """The mean of p(x|z1,z2), with z1 sampled from p(z1|z2) or set to its mean."""
        p = self.lower_prior(z)
        if not sample_lower:
            return self._decode(p.loc, z).mean
        lower = p.sample(generator=generator) if noise is None else torch.addcmul(p.loc, p.scale, noise)
        return self._decode(lower, z).mean

    def _reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x|z1,z2) at the means of q(z2|x) and q(z1|x,z2), (n, c, h, w)."""
        z = self.encoder(x).loc
        return self._decode(self.lower_encoder(x, z).loc, z).mean

    def _decode(self, lower: Tensor, z: Tensor) -> Distribution:
        return self.decoder(torch.cat([lower, z.expand(*lower.shape[:-1], z.shape[-1])], -1))
