"""What a benchmark measures, as it is written to a file and shown."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self, TypedDict

import torch

from bype.core.devices import device_model, versions
from bype.core.errors import InputError
from bype.experiments.benchmark.measure import Ratio, Times, clock


@dataclass(frozen=True)
class Scale:
    """The sizes of a benchmark."""

    items: int = 50_000  # training items; the time does not depend on their values
    batch: int = 100
    components: int = 500
    samples: int = 5000  # importance samples of an item
    scored: int = 2  # items scored in a block
    steps: int = 10  # steps in a block
    rounds: int = 15  # blocks of each task
    precision: str = "fp32"

    def quick(self) -> Self:
        """Sizes for a first look, in less than a minute."""
        return type(self)(items=5000, samples=1000, steps=3, rounds=5, precision=self.precision)


@dataclass
class Row:
    """One measurement: a median, and the ratios to others of the same round."""

    group: str
    name: str
    figures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, group: str, name: str, times: Times, over_floor: Ratio | None = None) -> Self:
        """A row of blocks: `seconds` of a unit, and the ratio to the floor, if there is one."""
        row = cls(group, name, {"seconds": statistics.median(times.work), "blocks": len(times.work)})
        if over_floor is not None:
            row.figures["seconds_floor"] = statistics.median(times.floor)
            row.compare("over_floor", over_floor)
        return row

    def compare(self, name: str, ratio: Ratio) -> None:
        """Adds a ratio: its median under `name`, its quartiles under `name_low` and `name_high`."""
        self.figures |= {name: ratio.median, f"{name}_low": ratio.low, f"{name}_high": ratio.high}


class Benchmark(TypedDict):
    """The file of a benchmark."""

    device: str
    threads: int
    clock: str
    versions: dict[str, str]
    scale: dict[str, int | str]
    rows: list[dict[str, object]]


def record(rows: list[Row], scale: Scale, device: torch.device, more_versions: Mapping[str, str]) -> Benchmark:
    """The rows with what they were measured on."""
    return {
        "device": device_model(device),
        "threads": torch.get_num_threads(),
        "clock": clock(device)[0],
        "versions": versions() | dict(more_versions),
        "scale": asdict(scale),
        "rows": [{"group": row.group, "name": row.name, **row.figures} for row in rows],
    }


def rows_of(benchmark: object, where: str) -> list[Row]:
    """The rows of a file.

    Raises:
        InputError: If it is not the file of a benchmark.
    """
    found = benchmark.get("rows") if isinstance(benchmark, dict) else None
    rows = []
    for line in found if isinstance(found, list) else []:
        if isinstance(line, dict) and {"group", "name"} <= line.keys():
            figures = {k: float(v) for k, v in line.items() if isinstance(v, int | float)}
            rows.append(Row(str(line["group"]), str(line["name"]), figures))
    if not rows:
        raise InputError(f"{where}: expected a file written by `bype bench --out`, got another")
    return rows
