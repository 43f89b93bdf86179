"""Training steps of pythae's models beside ours, with equal layers; pythae is the extra `bench`.

Source: https://github.com/clementchadebec/benchmark_VAE (Chadebec et al., 2022).
"""

import contextlib
import io
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor, nn

from bype.core.errors import InputError
from bype.data.images import Dataset
from bype.experiments.benchmark.epochs import KINDS, REFERENCE, as_in_training, make_trainer, points, step_task
from bype.experiments.benchmark.floors import Sizes
from bype.experiments.benchmark.measure import Progress, Task, alternate, ratio
from bype.experiments.benchmark.records import Row, Scale
from bype.networks.layers import gated_mlp

#: Each model of pythae, and the kind of training of ours that it is compared with.
PEERS = {"VAE": "standard", "VAMP": "vamp"}


def peer_versions() -> dict[str, str]:
    """The version of pythae.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return {"pythae": version("pythae")}
    except PackageNotFoundError:
        raise InputError("--only peers: needs the library pythae: pip install 'bype[bench]'") from None


def peer_rows(data: Dataset, scale: Scale, progress: Progress | None = None) -> list[Row]:
    """A row for each model: a step of pythae's, and the ratio to the step of ours with the same layers."""
    ours = {name: KINDS[name] for name in (*PEERS.values(), REFERENCE)}
    device = data.train.pixels.device
    with as_in_training(), tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        tasks = {
            name: step_task(make_trainer(kind, data, scale), scale, points(kind, scale)) for name, kind in ours.items()
        }
        tasks |= {f"pythae {name}": _task(name, data, scale, folder) for name in PEERS}
        times = alternate(tasks, scale.rounds, device, progress)
    rows = []
    for name, counterpart in PEERS.items():
        own = times[f"pythae {name}"]
        row = Row.of("peers", f"pythae {name}", own)
        row.compare("over_ours", ratio(own.work, times[counterpart].work))
        row.compare("over_bype", ratio(own.work, times[REFERENCE].work))
        rows.append(row)
    return rows


class _Encoder(nn.Module):
    """Two gated dense layers and two heads."""

    def __init__(self, output: Callable[..., object], sizes: Sizes) -> None:
        super().__init__()
        self.output = output
        self.hidden = gated_mlp(sizes.pixels, sizes.hidden, sizes.hidden)
        self.heads = nn.Linear(sizes.hidden, 2 * sizes.latent)

    def forward(self, x: Tensor) -> object:
        loc, log_variance = self.heads(self.hidden(x.flatten(1))).chunk(2, -1)
        return self.output(embedding=loc, log_covariance=log_variance)


class _Decoder(nn.Module):
    """Two gated dense layers and a linear output."""

    def __init__(self, output: Callable[..., object], sizes: Sizes) -> None:
        super().__init__()
        self.output = output
        self.hidden = gated_mlp(sizes.latent, sizes.hidden, sizes.hidden)
        self.image = nn.Linear(sizes.hidden, sizes.pixels)

    def forward(self, z: Tensor) -> object:
        return self.output(reconstruction=self.image(self.hidden(z)))


def _task(name: str, data: Dataset, scale: Scale, folder: str) -> Task:
    """Blocks of steps of pythae's own trainer, with its data loader, without its progress bar."""
    # Imported here: an extra.
    from pythae import models, trainers
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers.training_callbacks import CallbackHandler

    class Encoder(_Encoder, BaseEncoder):
        """The encoder, as pythae asks for it."""

    class Decoder(_Decoder, BaseDecoder):
        """The decoder, as pythae asks for it."""

    sizes, shape = Sizes(), data.train.shape
    config = getattr(models, f"{name}Config")(
        input_dim=shape, latent_dim=sizes.latent, **({"number_components": scale.components} if name == "VAMP" else {})
    )
    model = getattr(models, name)(config, Encoder(ModelOutput, sizes), Decoder(ModelOutput, sizes))
    images = data.train.first(scale.steps * scale.batch).scaled().cpu()
    settings = trainers.BaseTrainerConfig(
        output_dir=folder, per_device_train_batch_size=scale.batch, no_cuda=data.train.pixels.device.type != "cuda"
    )
    with contextlib.redirect_stderr(io.StringIO()):
        trainer = trainers.BaseTrainer(model, BaseDataset(images, torch.zeros(len(images))), None, settings)
        trainer.prepare_training()
    trainer.callback_handler = CallbackHandler([], model)
    return Task(lambda: trainer.train_step(1), scale.steps)
