"""What is made from a run's networks after training, figures and refitted priors: each belongs to those networks."""

import math
import re
from typing import Any

from bype.checkpoints import FORMAT, read_checkpoint, read_tensors, write_tensors
from bype.data import Dataset
from bype.devices import versions
from bype.errors import InputError, RunExistsError, first_line
from bype.files import locked, read_json, write_json
from bype.priors import FittedMixture
from bype.runs import Run
from bype.scoring import Scoring


class Results:
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
        """Puts figures into evaluation.json, beside those of other splits, seeds and refits; returns whether it did.

        Figures of more samples and items are not replaced by those of fewer: they may have taken hours.

        Args:
            figures: With the keys `split` and `seed`; what has another value under a name already is replaced.

        Raises:
            InputError: If the file is damaged or cannot be written, or the networks are others by now.
        """
        with locked(self.path):
            self._check_networks()
            rest, own = [], {}
            for entry in self.figures():
                if (entry.get("split"), entry.get("seed")) == (figures["split"], figures["seed"]):
                    own = entry
                else:
                    rest.append(entry)
            if _scored(own, figures) > _scored(figures, figures):
                return False
            self._write_figures([*rest, own | figures])
        return True

    def scoring(self, split: str, *, samples: int, seed: int = 0, every: int = 1, refit: str | None = None) -> Scoring:
        """Where the part of a scoring that is done is kept, of these networks, this code and, if named, that refit."""
        made_for: dict[str, Any] = {"networks": self.networks, "source": versions()["source"]}
        made_for |= {"split": split, "every": every, "refit": refit}
        name = f"scoring-{split}-{samples}-s{seed}"
        if refit is not None:
            name += f"@{refit}"
            made_for["refit_sum"] = read_checkpoint(self.path / f"refit-{refit}.safetensors")[2]
        return Scoring(self.path / f"{name}.safetensors", made_for)

    def _check_networks(self) -> None:
        if self.networks != self.run.networks():
            raise InputError(
                f"{self.path}: expected the networks of epoch {self.networks['epoch']}, which this was made for, got "
                "later ones; nothing is recorded"
            )

    def _write_figures(self, scored: list[dict[str, Any]]) -> None:
        scored = sorted(scored, key=lambda e: (str(e.get("split")), str(e.get("seed"))))
        write_json(self.path / "evaluation.json", {"format": FORMAT, "networks": self.networks, "scored": scored})

    def save_refit(self, name: str, prior: FittedMixture, *, method: str, seed: int) -> dict[str, Any]:
        """Writes refit-NAME.safetensors and refit-NAME.json, and returns what the latter says.

        Args:
            name: What to call it.
            prior: The prior.
            method: `points` or `em`.
            seed: The seed it was made with.

        Raises:
            RunExistsError: If the run has a refit of that name.
            InputError: If the name is not letters, digits, `.`, `_` and `-`, or the networks are others by now.
        """
        tensors = dict(prior.state_dict())
        if prior.items is not None:
            tensors["items"] = prior.items
        sigma = prior.log_scale.exp().item()
        record = {"name": name, "components": len(prior.loc), "method": method, "sigma": sigma, "seed": seed}
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
        where = self.path / f"refit-{name}.json"
        return where.exists() and read_json(where).get("networks") == self.networks

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
        tensors, counters = read_tensors(where)
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


def _scored(entry: dict[str, Any], like: dict[str, Any]) -> int:
    """How many samples were scored in all, for the figures' own prior or the refit that they are under."""
    suffix = next((key.removeprefix("samples") for key in like if key.startswith("samples")), "")
    counts = [entry.get(f"{name}{suffix}") for name in ("samples", "items")]
    return math.prod(count if isinstance(count, int) else 0 for count in counts)
