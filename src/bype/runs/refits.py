"""Refits of a run: priors fitted after training, each in refit-NAME.safetensors and refit-NAME.json."""

import re
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

from bype.core.errors import InputError, RunExistsError, first_line
from bype.core.files import read_json, write_json
from bype.core.tensors import FORMAT, read_checkpoint, write_tensors
from bype.data.images import Dataset
from bype.priors.fitted import FittedMixture
from bype.runs.checkpoints import Networks

Method = Literal["points", "em"]


class RefitRecord(TypedDict):
    """The content of refit-NAME.json, to which the file adds its format and the networks."""

    name: str
    components: int
    method: Method
    sigma: float
    seed: int
    seconds: NotRequired[float]  # of the fit


class Refits:
    """The refits of one state of a run's networks; those of earlier networks count as absent.

    Args:
        folder: The run folder.
        networks: The identity of the networks.
    """

    def __init__(self, folder: Path, networks: Networks) -> None:
        self._folder, self._networks = folder, networks
        self._sums: dict[str, str] = {}  # checksums of the refits that were loaded

    def names(self) -> list[str]:
        """The names of all refits in the folder, those of earlier networks too."""
        return sorted(p.name[len("refit-") : -len(".json")] for p in self._folder.glob("refit-*.json"))

    def record(self, name: str) -> RefitRecord | None:
        """The record of a refit; None if there is none, or it was made for other networks.

        Raises:
            InputError: If its file is damaged.
        """
        where = self._folder / f"refit-{name}.json"
        record = read_json(where) if where.exists() else {}
        return cast(RefitRecord, record) if record.get("networks") == self._networks else None

    def check_name(self, name: str) -> None:
        """Checks that a new refit may have this name; a refit of earlier networks may be replaced.

        Raises:
            RunExistsError: If the name is taken.
            InputError: If it is not letters, digits, `.`, `_` and `-`.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f"--name: expected letters, digits, '.', '_' and '-', got {name!r}")
        if self.record(name) is not None:
            raise RunExistsError(f"{self._folder}: already has a refit {name!r}; choose another --name")

    def save(
        self, name: str, prior: FittedMixture, *, method: Method, seed: int, seconds: float | None = None
    ) -> RefitRecord:
        """Writes the two files of a refit, the record last. The caller must hold the lock of the evaluations.

        Raises:
            InputError: If a file cannot be written.
        """
        tensors = dict(prior.state_dict())
        if prior.items is not None:
            tensors["items"] = prior.items
        sigma = prior.log_scale.exp().item()
        record: RefitRecord = {
            "name": name, "components": len(prior.loc), "method": method, "sigma": sigma, "seed": seed,
        }  # fmt: skip
        if seconds is not None:
            record["seconds"] = seconds
        write_tensors(self._tensors(name), tensors, {"networks": self._networks})
        write_json(self._folder / f"refit-{name}.json", {"format": FORMAT, **record, "networks": self._networks})
        return record

    def load(self, name: str, data: Dataset | None = None) -> FittedMixture:
        """A refit by name, on the device of the data.

        Args:
            name: Its name.
            data: The run's data; without them, components at training items have no images to show
                (`Prior.lacks_items`), and the refit is on the CPU.

        Raises:
            InputError: If there is none, its file is damaged, or it was made for other networks.
        """
        where = self._tensors(name)
        if not where.exists():
            have = ", ".join(self.names()) or "none yet"
            raise InputError(f"--with: expected one of the run's refits ({have}), got {name!r}")
        tensors, counters, self._sums[name] = read_checkpoint(where)
        made_for = counters.get("networks")
        if made_for != self._networks:
            got = f"one of epoch {made_for.get('epoch')}" if isinstance(made_for, dict) else "one without an epoch"
            raise InputError(
                f"{where}: expected a refit of the networks of epoch {self._networks['epoch']}, got {got}; make it "
                f"again with refit --name {name}"
            )
        try:
            items = tensors.pop("items", None)
            prior = FittedMixture(**tensors, images=None, items=items)
            if data is not None:
                prior = prior.to(data.train.pixels.device)
                prior.attach_items(data.train)
        except (AttributeError, TypeError, ValueError, RuntimeError) as e:
            raise InputError(f"{where}: not a refit of this run ({first_line(e)})") from None
        return prior

    def checksum(self, name: str) -> str:
        """The checksum of a refit: of the one that was loaded, or else of the one in the folder.

        Raises:
            InputError: If there is none, or its file is damaged.
        """
        return self._sums.get(name) or read_checkpoint(self._tensors(name))[2]

    def check_unchanged(self, name: str) -> None:
        """Checks that a refit that was loaded is still the one in the folder.

        Raises:
            InputError: If it is not.
        """
        where = self._tensors(name)
        if name in self._sums and (not where.exists() or read_checkpoint(where)[2] != self._sums[name]):
            raise InputError(f"{where}: replaced after it was loaded; nothing is recorded")

    def _tensors(self, name: str) -> Path:
        return self._folder / f"refit-{name}.safetensors"
