"""Makes the golden runs: tiny models whose figures every later version must give. Only for a new kind of run.

A run that is there is left as it is: `python tests/golden/make.py`.
"""

import json
import tempfile
from pathlib import Path

import torch

from bype.core.config import Config
from bype.core.names import PRIORS
from bype.data.images import Dataset
from bype.models.vae import VAE
from bype.runs.fitting import fit
from bype.runs.run import Run

HERE = Path(__file__).parent


@torch.no_grad()
def figures(model: VAE, data: Dataset) -> dict[str, list[float]]:
    """What a model says of the first test items, without a random draw: only sums of products can differ."""
    x = data.test.scaled(slice(0, 5))
    q = model.eval().encoder(x)
    z = q.loc if hasattr(q, "loc") else q.mean
    values = {
        "means": z,
        "log_q": q.log_prob(z),
        "log_p": model.prior(model.encoder).log_prob(z),
        "log_likelihood": model.decoder(z).log_prob(x),
    }
    return {name: v.double().flatten().tolist() for name, v in values.items()}


def main() -> None:
    """Trains what is not there yet."""
    likelihoods = {"standard": "bernoulli", "vamp": "gaussian", "exemplar": "mse", "bype": "mse"}
    for prior in PRIORS:
        folder = HERE / prior
        if folder.exists():
            continue
        config = Config(
            "digits", prior=prior, likelihood=likelihoods[prior], n_components=3, exemplars=20, latent_dim=2,
            hidden_dim=2, epochs=4, warmup=2, coreset_interval=2, coreset_steps=5, lr=5e-3, device="cpu",
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            fit(config, Path(scratch) / prior)
            folder.mkdir(parents=True)
            for name in ("config.json", "best.safetensors"):
                (folder / name).write_bytes((Path(scratch) / prior / name).read_bytes())
        loaded = Run.open(folder).load("cpu")
        (folder / "figures.json").write_text(json.dumps(figures(loaded.model, loaded.data), indent=1) + "\n")


if __name__ == "__main__":
    main()
