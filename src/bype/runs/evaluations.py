"""Recorded after training: evaluation.json, refits and partial scores, each of one state of the run's networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypedDict

from bype.core.devices import versions
from bype.core.errors import InputError
from bype.core.files import read_json, write_json
from bype.core.locks import locked
from bype.core.tensors import FORMAT
from bype.priors.fitted import FittedMixture
from bype.runs.checkpoints import Networks
from bype.runs.refits import Method, RefitRecord, Refits
from bype.runs.run import LoadedRun, Run
from bype.runs.scoring import PartialScores, partial_scores_in

#: `split`, `seed` and metrics by name. A metric under a refit is called METRIC@NAME; `knn` maps K to an accuracy.
Evaluation: TypeAlias = dict[str, str | int | float | dict[str, float]]
#: The same in memory, where K may be a number.
NewEvaluation: TypeAlias = Mapping[str, str | int | float | Mapping[int, float] | Mapping[str, float]]


class EvaluationFile(TypedDict):
    """The content of evaluation.json."""

    format: int
    networks: Networks
    scored: Sequence[Evaluation]  # one for each split and seed


class Evaluations:
    """The recorded evaluations and refits of a run's networks.

    Recording is refused if the best checkpoint has changed since the networks were loaded.

    Args:
        source: A loaded run; or a run, for the networks that its best checkpoint holds now: then create this object
            before loading the model.

    Raises:
        InputError: If there is no run, no epoch is saved, or the best checkpoint is damaged.
    """

    def __init__(self, source: LoadedRun | Run) -> None:
        if isinstance(source, LoadedRun):
            self.run, self.networks = source.run, source.networks
        else:
            self.run, self.networks = source, source.checkpoints.networks()
        self.path = self.run.path
        self.refits = Refits(self.path, self.networks)
        self._partial: set[Path] = set()

    def read(self) -> list[Evaluation]:
        """The entries of evaluation.json, one for each split and seed; none if they are of other networks.

        Raises:
            InputError: If the file is damaged.
        """
        where = self.path / "evaluation.json"
        if not where.exists():
            return []
        record = read_json(where)
        if record.get("networks") != self.networks:
            return []
        scored = record.get("scored")
        if not isinstance(scored, list) or not all(isinstance(entry, dict) for entry in scored):
            raise InputError(f"{where}: 'scored' is not a list of metrics; remove the file")
        return scored

    def add(self, evaluation: NewEvaluation) -> bool:
        """Adds metrics to evaluation.json, next to those of other splits, seeds and refits.

        Existing metrics computed from more examples, or from as many with more samples, are kept, since they may have
        taken hours; metrics with new names are added to them.

        Args:
            evaluation: The metrics, with `split` and `seed`.

        Raises:
            InputError: If the file is damaged or cannot be written, or the networks or the refit have changed.

        Returns:
            Whether all of them were recorded.
        """
        new: Evaluation = {
            name: {str(k): accuracy for k, accuracy in value.items()} if isinstance(value, Mapping) else value
            for name, value in evaluation.items()
        }
        with locked(self.path):
            self._check_networks()
            for name in {key.partition("@")[2] for key in new if "@" in key}:
                self.refits.check_unchanged(name)
            self._remove_stale()
            rest: list[Evaluation] = []
            own: Evaluation = {}
            for entry in self.read():
                if (entry.get("split"), entry.get("seed")) == (new["split"], new["seed"]):
                    own = entry
                else:
                    rest.append(entry)
            counted = any(key.startswith("samples") for key in new)  # unlike those of `sample_quality`
            keep = counted and _counts(own, new) > _counts(new, new)
            merged = new | own if keep else own | new
            before, now = own.get("knn"), new.get("knn")
            if isinstance(before, dict) and isinstance(now, dict):
                merged["knn"] = before | now
            self._write([*rest, merged])
        return not keep

    def partial_scores(
        self,
        split: str,
        *,
        samples: int,
        items: int | None = None,
        seed: int = 0,
        every: int = 1,
        refit: str | None = None,
    ) -> PartialScores:
        """The file of partial scores of an evaluation of these networks, by this code, under a refit if one is named.

        Args:
            split: The split.
            samples: Importance samples for each example.
            items: Only the first examples, this many.
            seed: Seed of the noise.
            every: Only every n-th example.
            refit: The name of a refit.
        """
        which = f"every{every}" if every > 1 else "all" if items is None else str(items)
        name = f"scoring-{split}-{samples}x{which}-s{seed}"
        scored: dict[str, object] = {
            "networks": self.networks, "versions": versions(), "split": split, "every": every,
        }  # fmt: skip
        if refit is not None:
            name += f"@{refit}"
            scored |= {"refit": refit, "refit_sum": self.refits.checksum(refit)}
        path = self.path / f"{name}.safetensors"
        self._partial.add(path)
        return PartialScores(path, scored)

    def save_refit(
        self, name: str, prior: FittedMixture, *, method: Method, seed: int, seconds: float | None = None
    ) -> RefitRecord:
        """Saves a refit, and removes the metrics under an earlier refit of the same name.

        Args:
            name: Its name.
            prior: The fitted prior.
            method: `points` or `em`.
            seed: The seed of the fit.
            seconds: The duration of the fit.

        Raises:
            RunExistsError: If the run has a refit of that name.
            InputError: If the name is not letters, digits, `.`, `_` and `-`, or the networks have changed.
        """
        with locked(self.path):
            self.refits.check_name(name)
            self._check_networks()
            kept = [{k: v for k, v in entry.items() if not k.endswith(f"@{name}")} for entry in self.read()]
            if kept:
                self._write(kept)
            return self.refits.save(name, prior, method=method, seed=seed, seconds=seconds)

    def _remove_stale(self) -> None:
        """Removes the partial scores of earlier networks."""
        for path, scored, _ in partial_scores_in(self.path, skip=self._partial):
            if scored.get("networks") != self.networks:
                path.unlink(missing_ok=True)

    def _check_networks(self) -> None:
        now = self.run.checkpoints.networks()
        if now != self.networks:
            raise InputError(
                f"{self.path}: expected the networks of epoch {self.networks['epoch']}, which were loaded, got those "
                f"of epoch {now['epoch']}, saved since; nothing is recorded"
            )

    def _write(self, scored: list[Evaluation]) -> None:
        scored = sorted(scored, key=lambda e: (str(e.get("split")), str(e.get("seed"))))
        content: EvaluationFile = {"format": FORMAT, "networks": self.networks, "scored": scored}
        write_json(self.path / "evaluation.json", content)


def _counts(entry: Evaluation, like: Evaluation) -> list[int]:
    """The numbers of examples and of samples, of the refit whose metrics `like` has, or else of the run's own prior."""
    suffix = next((key.removeprefix("samples") for key in like if key.startswith("samples")), "")
    counts = [entry.get(f"{name}{suffix}") for name in ("items", "samples")]
    return [count if isinstance(count, int) else 0 for count in counts]
