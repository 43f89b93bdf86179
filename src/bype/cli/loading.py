"""Loading a run for a command."""

from pathlib import Path

from bype.core.devices import resolve_device
from bype.data.images import Dataset
from bype.models.vae import VAE
from bype.runs.evaluations import Evaluations
from bype.runs.run import Run


def load_run(path: Path, device: str, refit: str | None = None) -> tuple[Run, Dataset, VAE]:
    """Loads a run, its data and its best model; `refit` names a refit that replaces the prior."""
    run = Run(path)
    data = run.load_data(resolve_device(device))
    model = run.load_model(data)
    if refit is not None:
        model.prior = Evaluations(run).load_refit(refit, data)
    return run, data, model
