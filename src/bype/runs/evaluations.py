"""What is made from a run's networks after training, figures and refitted priors: each belongs to those networks."""

import re
from typing import Any

from bype.core.devices import versions
from bype.core.errors import InputError, RunExistsError, first_line
from bype.core.files import locked, read_json, write_json
from bype.core.tensors import FORMAT, read_checkpoint, write_tensors
from bype.data.images import Dataset
from bype.priors.fitted import FittedMixture
from bype.runs.run import Run
from bype.runs.scoring import PartialScores, kept_in


class Evaluations:
    """The results of the networks that a run's best checkpoint holds when this is made.

    Made before those networks are loaded, it can record nothing of others: what is to be recorded after training has
    gone on is refused.

    Args:
        run: The run.

    Raises:
        InputError: If there is no run, no epoch was saved, or the best checkpoint is damaged.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.path, self.networks = run, run.path, run.networks()
        self._refits: dict[str, str] = {}  # the sums of those that were loaded

    def figures(self) -> list[dict[str, Any]]:
        """What evaluation.json says of the networks: an entry for each split and seed.

        Raises:
            InputError: If the file is damaged.
        """
        where = self.path / "evaluation.json"
        if not where.exists():
            return []
        record = read_json(where)
        if record.get("networks") != self.networks:
            return []  # of an earlier best epoch
        scored = record.get("scored")
        if not isinstance(scored, list) or not all(isinstance(entry, dict) for entry in scored):
            raise InputError(f"{where}: expected a list of figures under 'scored', got another file; remove it")
        return scored

    def add_figures(self, figures: dict[str, Any]) -> bool:
        """Puts figures into evaluation.json, beside those of other splits, seeds and refits.

        Figures of more items, or of as many by more samples, are not replaced: they may have taken hours. What is new
        beside them is added.

        Args:
            figures: With the keys `split` and `seed`; what has another value under a name already is replaced.

        Raises:
            InputError: If the file is damaged or cannot be written, or the networks or the refit are others by now.

        Returns:
            Whether all of them were recorded.
        """
        with locked(self.path):
            self._check_networks()
            for name in {key.partition("@")[2] for key in figures if "@" in key}:
                self._check_refit(name)
            self._remove_stale()
            rest, own = [], {}
            for entry in self.figures():
                if (entry.get("split"), entry.get("seed")) == (figures["split"], figures["seed"]):
                    own = entry
                else:
                    rest.append(entry)
            more = _scored(own, figures) > _scored(figures, figures)
            merged = figures | own if more else own | figures
            if "knn" in own and "knn" in figures:  # by K: a number in memory, a string in JSON
                merged["knn"] = own["knn"] | {str(k): value for k, value in figures["knn"].items()}
            self._write_figures([*rest, merged])
        return not more

    def scoring(
        self,
        split: str,
        *,
        samples: int,
        items: int | None = None,
        seed: int = 0,
        every: int = 1,
        refit: str | None = None,
    ) -> PartialScores:
        """Where the part of a scoring that is done is kept, of these networks, versions and, if named, refit."""
        which = f"every{every}" if every > 1 else "all" if items is None else str(items)
        name = f"scoring-{split}-{samples}x{which}-s{seed}"
        made_for: dict[str, Any] = {"networks": self.networks, "versions": versions(), "split": split, "every": every}
        if refit is not None:
            name += f"@{refit}"
            made_for |= {"refit": refit, "refit_sum": self._refit_sum(refit)}
        return PartialScores(self.path / f"{name}.safetensors", made_for)

    def _remove_stale(self) -> None:
        """Removes the parts of scorings of earlier networks."""
        for path, what, _ in kept_in(self.path):
            if what.get("networks") != self.networks:
                path.unlink(missing_ok=True)

    def _check_networks(self) -> None:
        if self.networks != self.run.networks():
            raise InputError(
                f"{self.path}: expected the networks of epoch {self.networks['epoch']}, which this was made for, got "
                "later ones; nothing is recorded"
            )

    def _write_figures(self, scored: list[dict[str, Any]]) -> None:
        scored = sorted(scored, key=lambda e: (str(e.get("split")), str(e.get("seed"))))
        write_json(self.path / "evaluation.json", {"format": FORMAT, "networks": self.networks, "scored": scored})

    def save_refit(
        self, name: str, prior: FittedMixture, *, method: str, seed: int, seconds: float | None = None
    ) -> dict[str, Any]:
        """Writes refit-NAME.safetensors and refit-NAME.json, and returns what the latter says.

        Args:
            name: What to call it.
            prior: The prior.
            method: `points` or `em`.
            seed: The seed it was made with.
            seconds: How long that took.

        Raises:
            RunExistsError: If the run has a refit of that name.
            InputError: If the name is not letters, digits, `.`, `_` and `-`, or the networks are others by now.
        """
        tensors = dict(prior.state_dict())
        if prior.items is not None:
            tensors["items"] = prior.items
        sigma = prior.log_scale.exp().item()
        record = {"name": name, "components": len(prior.loc), "method": method, "sigma": sigma, "seed": seed}
        if seconds is not None:
            record["seconds"] = seconds
        with locked(self.path):
            self.check_refit_name(name)
            self._check_networks()
            # Figures under an earlier refit of that name go first.
            kept = [{k: v for k, v in entry.items() if not k.endswith(f"@{name}")} for entry in self.figures()]
            if kept:
                self._write_figures(kept)
            write_tensors(self.path / f"refit-{name}.safetensors", tensors, {"networks": self.networks})
            write_json(self.path / f"refit-{name}.json", {"format": FORMAT, **record, "networks": self.networks})
        return record

    def has_refit(self, name: str) -> bool:
        """Whether the run has a refit of that name, made for these networks; its record is written last.

        Raises:
            InputError: If the record is damaged.
        """
        return self.refit_record(name) is not None

    def check_refit_name(self, name: str) -> None:
        """Refuses a name that makes no file name, or is taken; a refit of earlier networks may be replaced.

        Raises:
            RunExistsError: If the name is taken.
            InputError: If it makes no file name.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f"--name: expected letters, digits, '.', '_' and '-', got {name!r}")
        if self.has_refit(name):
            raise RunExistsError(f"{self.path}: expected no refit {name!r} there, got one; choose another --name")

    def refit_record(self, name: str) -> dict[str, Any] | None:
        """What refit-NAME.json says; None where there is none, or one made for other networks.

        Raises:
            InputError: If it is damaged.
        """
        where = self.path / f"refit-{name}.json"
        record = read_json(where) if where.exists() else {}
        return record if record.get("networks") == self.networks else None

    def _refit_sum(self, name: str) -> str:
        return self._refits.get(name) or read_checkpoint(self.path / f"refit-{name}.safetensors")[2]

    def _check_refit(self, name: str) -> None:
        """Refuses figures under a refit that is another by now than the one that was loaded."""
        where = self.path / f"refit-{name}.safetensors"
        if name in self._refits and (not where.exists() or read_checkpoint(where)[2] != self._refits[name]):
            raise InputError(
                f"{where}: expected the refit that this was scored under, got another by now; nothing is recorded"
            )

    def load_refit(self, name: str, data: Dataset) -> FittedMixture:
        """The refit of that name, on the device of the data.

        Raises:
            InputError: If there is none, its file is damaged, or it was made for other networks.
        """
        where = self.path / f"refit-{name}.safetensors"
        if not where.exists():
            have = sorted(p.name[len("refit-") : -len(".json")] for p in self.path.glob("refit-*.json"))
            raise InputError(
                f"--with: expected one of the run's refits ({', '.join(have) or 'none yet'}), got {name!r}"
            )
        tensors, counters, self._refits[name] = read_checkpoint(where)
        made = counters.get("networks")
        if made != self.networks:
            got = f"one of epoch {made.get('epoch')}" if isinstance(made, dict) else "one that does not say of which"
            raise InputError(
                f"{where}: expected a refit of the networks of epoch {self.networks['epoch']}, got {got}; make it "
                f"again with refit --name {name}"
            )
        items, device = tensors.pop("items", None), data.train.pixels.device
        try:
            images = None if items is None else data.train
            if items is not None and (items.min() < 0 or items.max() >= len(data.train)):
                raise ValueError("items out of range")
            prior = FittedMixture(**tensors, images=images, items=None if items is None else items.to(device))
        except (TypeError, ValueError, RuntimeError) as e:
            raise InputError(f"{where}: expected a refitted prior, got other tensors ({first_line(e)})") from None
        return prior.to(device)


def _scored(entry: dict[str, Any], like: dict[str, Any]) -> list[int]:
    """How many items were scored, and with how many samples, for the figures' own prior or the refit they are under."""
    suffix = next((key.removeprefix("samples") for key in like if key.startswith("samples")), "")
    counts = [entry.get(f"{name}{suffix}") for name in ("items", "samples")]
    return [count if isinstance(count, int) else 0 for count in counts]
