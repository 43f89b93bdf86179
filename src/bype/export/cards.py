"""Model cards: the README.md of a shared model, with a YAML head that the Hub reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bype.core.devices import versions
from bype.core.errors import InputError
from bype.models.vae import VAE
from bype.runs.evaluations import Evaluations
from bype.runs.run import LoadedRun
from bype.viz.wording import metrics_in_words


class DataLicence(NamedTuple):
    """The licence of a published data set, and its name on the Hub."""

    text: str
    hub: str | None = None


DATA_LICENCES = {
    "digits": DataLicence("CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)"),
    "mnist": DataLicence("CC BY-SA 3.0", "ylecun/mnist"),
    "fashion-mnist": DataLicence("MIT", "zalando-datasets/fashion_mnist"),
    "cifar10": DataLicence("its authors state none", "uoft-cs/cifar10"),
    "celeba": DataLicence("non-commercial research only"),
}
UNKNOWN = "not stated"
PAPERS = {
    "VampPrior": "1705.07120",
    "ExemplarPrior": "2004.04795",
    "PseudocoresetPrior": "2107.09286",
    "StandardPrior": "1312.6114",
}

_TEXT = """\
# {title}

A variational autoencoder, written by [bype](https://pypi.org/project/bype/) {version}.

```python
import bype

model = bype.from_pretrained({place!r}{data_argument})
samples = model.sample(16).images  # (16, {shape}), values in [0, 1]
```
{needs}
## The model

| | |
|---|---|
{rows}

Images are {shape} floats in [0, 1]; {scaling}.

## Figures
{figures}
## Data

Data set: {data}. Licence of the data: {data_licence}. {points}

## Use and limits

The model was trained on the data above alone, and knows nothing else: its log-likelihoods do not say whether another
kind of image is harmful, real or correct. The weights are a safetensors file; loading it runs no code of its own.

## Licence

{licence}

## Citation

[arXiv:{paper}](https://arxiv.org/abs/{paper}), and bype.
"""


class Card(NamedTuple):
    """What a card says that the model does not."""

    licence: str = "unknown"  # an identifier of the Hub, such as `mit`
    data_licence: str | None = None
    run: LoadedRun | None = None
    name: str | None = None  # of the model on the Hub


def card_text(model: VAE, card: Card, *, refit: str | None = None) -> str:
    """The README.md of a shared model: a YAML head, and how to load it, its options, figures, data and licences.

    Args:
        model: The model.
        card: What else is known.
        refit: The name of the refit that the model has as prior; then only its figures are listed.

    Raises:
        InputError: If the licence is not an identifier such as `mit`.
    """
    if not card.licence.replace("-", "").replace(".", "").isalnum() or card.licence != card.licence.lower():
        raise InputError(f"license: expected an identifier such as mit or cc-by-4.0, got {card.licence!r}")
    c, h, w = model.decoder.shape
    data, known = _data(card)
    data_licence = card.data_licence or (known.text if known else UNKNOWN)
    evaluations = [] if card.run is None else Evaluations(card.run).read()
    title = card.name or f"{_arch(model)} with {type(model.prior).__name__}"
    values: dict[str, str] = {
        "title": title,
        "version": versions()["bype"],
        "place": card.name or "FOLDER",
        "data_argument": ", data=DATA" if model.prior.needs_items else "",
        "needs": _needs(model),
        "shape": f"{c}, {h}, {w}",
        "rows": "\n".join(f"| {name} | {value} |" for name, value in _rows(model, card)),
        "scaling": "unchanged" if model.levels is None else f"a stored value v is (v + 1/2)/{model.levels}",
        "figures": _figures(evaluations, card, refit),
        "data": data,
        "data_licence": data_licence,
        "points": _points(model),
        "licence": f"`{card.licence}`" if card.licence != "unknown" else "Not stated.",
        "paper": PAPERS.get(type(model.prior).__name__, PAPERS["PseudocoresetPrior"]),
    }
    return _head(title, data, card, known, data_licence, evaluations, refit) + _TEXT.format(**values)


def _data(card: Card) -> tuple[str, DataLicence | None]:
    """The name of the data set, without its folder, and its licence if it is a published one."""
    if card.run is None:
        return UNKNOWN, None
    name = card.run.run.config.set
    return Path(name).name, DATA_LICENCES.get(name)


def _arch(model: VAE) -> str:
    return str(model.description["options"]["arch"]) if model.description else type(model.encoder.own_part).__name__


def _rows(model: VAE, card: Card) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("prior", type(model.prior).__name__),
        ("likelihood", type(model.decoder.likelihood).__name__),
        ("parameters", sum(p.numel() for p in model.parameters())),
    ]
    if card.run is not None:
        config, record = card.run.run.config.to_dict(), card.run.run.record
        unused = {*record["unused"], "set", "data_dir", "out", "device"}
        rows += [(f"`{k}`", v) for k, v in config.items() if v is not None and k not in unused]
        rows += [("epoch of the weights", card.run.networks["epoch"]), ("trained on", record["device"])]
        rows += [(f"version of {k}", v) for k, v in record["versions"].items() if k != "source"]
    return rows


def _needs(model: VAE) -> str:
    if not model.prior.needs_items:
        return ""
    return "\nIts prior is made of the training items, which are not part of this folder: give them as `data`.\n"


def _points(model: VAE) -> str:
    if model.prior.pseudocoreset is None and not hasattr(model.prior, "pseudo_inputs"):
        return ""
    return (
        "The file holds the points of the prior, which start as training items and may still show them: share it only "
        "if the data may be shared."
    )


def _chosen(entry: Mapping[str, object], refit: str | None) -> dict[str, object]:
    """The metrics of the prior that is shared: of the refit, or of the trained one."""
    return {k: v for k, v in entry.items() if k.partition("@")[2] == (refit or "") and k not in ("split", "seed")}


def _figures(evaluations: Sequence[Mapping[str, object]], card: Card, refit: str | None) -> str:
    if card.run is None or not evaluations:
        return "\nNone are recorded: `bype evaluate RUN` before sharing records them.\n"
    unit = card.run.run.record["unit"]
    text = ""
    for entry in evaluations:
        rows = [
            f"| `{m.name}` | {m.value} | {m.unit} | {m.meaning} |"
            for m in metrics_in_words(_chosen(entry, refit), unit)
        ]
        if rows:
            text += f"\nSplit `{entry['split']}`, seed {entry['seed']}:\n\n| metric | value | unit | meaning |\n"
            text += "|---|---|---|---|\n" + "\n".join(rows) + "\n"
    return text or "\nNone are recorded for this prior.\n"


def _head(
    title: str,
    data: str,
    card: Card,
    known: DataLicence | None,
    data_licence: str,
    evaluations: Sequence[Mapping[str, object]],
    refit: str | None,
) -> str:
    """The YAML head; its values are JSON, which is YAML too."""
    results = [
        {
            "task": {"type": "density-estimation", "name": "density estimation"},
            "dataset": {"name": data, "type": known.hub if known and known.hub else data, "split": entry["split"]},
            "metrics": [
                {"type": k, "value": v}
                for k, v in _chosen(entry, refit).items()
                if isinstance(v, int | float) and not k.startswith(("samples", "items"))
            ],
        }
        for entry in evaluations
    ]
    head: dict[str, object] = {
        "library_name": "bype",
        "license": card.licence,
        "data_license": data_licence,
        "tags": ["variational-autoencoder", "bype", "safetensors"],
    }
    if known and known.hub:
        head["datasets"] = [known.hub]
    if found := [r for r in results if r["metrics"]]:
        head["model-index"] = [{"name": title, "results": found}]
    return "---\n" + "".join(f"{k}: {json.dumps(v)}\n" for k, v in head.items()) + "---\n\n"
