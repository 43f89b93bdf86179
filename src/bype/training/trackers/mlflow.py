"""MLflow: logs to MLFLOW_TRACKING_URI, or to RUN/mlflow.db if that is not set."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bype.training.trackers.tracking import missing, tiled


class MLflow:
    """Logs an MLflow run with the name of the run folder, in the experiment `bype`; a resume continues it.

    Raises:
        InputError: If MLflow is not installed.
    """

    def __init__(self) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise missing("mlflow", "mlflow") from None
        self._connect = MlflowClient

    def begin(self, folder: Path, options: Mapping[str, object], epoch: int) -> None:
        """Opens the MLflow run."""
        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self.client = self._connect(tracking_uri=place)
        experiment = self.client.get_experiment_by_name("bype")
        artifacts = None if os.environ.get("MLFLOW_TRACKING_URI") else (folder.resolve() / "mlflow").as_uri()
        where = experiment.experiment_id if experiment else self.client.create_experiment("bype", artifacts)
        known = self.client.search_runs([where], f"tags.folder = '{folder.resolve()}'") if epoch else []
        if known:
            self.id = known[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
            return
        self.id = self.client.create_run(
            where, run_name=folder.name, tags={"folder": str(folder.resolve())}
        ).info.run_id
        for name, value in options.items():
            if value is not None:
                self.client.log_param(self.id, name, value)

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Logs a point of each curve."""
        for name, value in values.items():
            self.client.log_metric(self.id, name, value, step=epoch)

    def images(self, epoch: int, name: str, images: np.ndarray) -> None:
        """Logs the pictures as one grid."""
        self.client.log_image(self.id, tiled(images), artifact_file=f"{name}/{epoch:05d}.png")

    def end(self) -> None:
        """Ends the MLflow run."""
        self.client.set_terminated(self.id)
