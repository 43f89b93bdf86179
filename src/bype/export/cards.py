"""Model cards: the README.md of a shared model, with a YAML head that the Hub reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bype.core.devices import versions
from bype.core.display import unit_in_words
from bype.core.errors import InputError
from bype.models.vae import VAE
from bype.runs.evaluations import Evaluations
from bype.runs.run import LoadedRun
from bype.viz.wording import metrics_in_words


class Source(NamedTuple):
    """Where a published data set comes from."""

    page: str  # of its authors
    hub: str | None = None  # its name on the Hub
    licence: str | None = None  # where its authors publish one together with the data


SOURCES = {
    "digits": Source("https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"),
    "mnist": Source("https://yann.lecun.com/exdb/mnist/", "ylecun/mnist"),
    "fashion-mnist": Source(
        "https://github.com/zalandoresearch/fashion-mnist", "zalando-datasets/fashion_mnist", "MIT"
    ),
    "cifar10": Source("https://www.cs.toronto.edu/~kriz/cifar.html", "uoft-cs/cifar10"),
    "celeba": Source("https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"),
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

A variational autoencoder (VAE) for {items}. Its prior is {prior_in_words}. Written by bype {version}.

```python
import bype

model = bype.from_pretrained({place!r}{data_argument})
samples = model.sample(16).images  # (16, {shape})
scores = bype.score(model, samples)  # the log-likelihood of each, in nats
```
{needs}
## The model

| | |
|---|---|
{rows}

{inputs}
{options}
## Figures
{figures}
## Data

Data set: {data}. Licence of the data: {data_licence}.{points}

## Use and limits

The model knows nothing but its training data. A log-likelihood says how usual an item is among these, not whether it
is harmful, real or correct, and another kind of data can have a high one. Samples are as blurred or noisy as the
likelihood makes them. The figures above are of one training run.

The weights are a safetensors file: loading it runs no code of its own.

## Licence

Licence of the model: {licence}.

## Citation

The method: [arXiv:{paper}](https://arxiv.org/abs/{paper}). The software: bype {version}.
"""

PRIORS_IN_WORDS = {
    "StandardPrior": "the standard normal",
    "VampPrior": "a VampPrior: a mixture of the posteriors of trained points",
    "ExemplarPrior": "an exemplar prior: a mixture over encoded training items",
    "PseudocoresetPrior": "a pseudocoreset: a mixture over weighted points that stand for the training items",
    "FittedMixture": "refitted after training: a mixture of normals",
}


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
    data_licence = _data_licence(card, known)
    evaluations = [] if card.run is None else Evaluations(card.run).read()
    prior = type(model.prior).__name__
    title = card.name or f"{_arch(model)} with {prior}"
    values: dict[str, str] = {
        "title": title,
        "version": versions()["bype"],
        "place": card.name or "FOLDER",
        "data_argument": ", data=DATA" if model.prior.needs_items else "",
        "needs": _needs(model),
        "shape": f"{c}, {h}, {w}",
        "items": _items(model),
        "prior_in_words": PRIORS_IN_WORDS.get(prior, f"of the class {prior}"),
        "rows": _table(_facts(model, card)),
        "options": _options(card),
        "inputs": _inputs(model),
        "figures": _figures(evaluations, card, refit),
        "data": data,
        "data_licence": data_licence,
        "points": _points(model),
        "licence": f"`{card.licence}`" if card.licence != "unknown" else UNKNOWN,
        "paper": PAPERS.get(prior, PAPERS["PseudocoresetPrior"]),
    }
    return _head(title, data, card, known, data_licence, evaluations, refit) + _TEXT.format(**values)


def _data(card: Card) -> tuple[str, Source | None]:
    """The name of the data set, without its folder, and its source if it is a published one."""
    if card.run is None:
        return UNKNOWN, None
    name = card.run.run.config.set
    return Path(name).name, SOURCES.get(name)


def _data_licence(card: Card, known: Source | None) -> str:
    """What the user states; otherwise what the authors publish with the data, or where to look."""
    if card.data_licence is not None:
        return card.data_licence
    if known is None:
        return UNKNOWN
    return f"{known.licence} ({known.page})" if known.licence else f"{UNKNOWN} here; see its source, {known.page}"


def _items(model: VAE) -> str:
    c, h, w = model.decoder.shape
    if table := model.decoder.likelihood.table:
        return f"rows of a table with {len(table.columns)} columns"
    return f"{h}x{w} images with {c} channel{'s' if c > 1 else ''}"


def _inputs(model: VAE) -> str:
    """The shape and the scale of what the model takes."""
    shape = ", ".join(map(str, model.decoder.shape))
    if table := model.decoder.likelihood.table:
        names = ", ".join(f"{_cell(c.name)} ({c.kind})" for c in table.columns)
        stored = f"A row is stored as ({shape}) numbers, real columns standardised."
        return f"Its inputs are rows of the columns {names}. {stored}"
    scale = "as they are" if model.levels is None else f"(v + 1/2)/{model.levels} of a stored value v"
    return f"Its inputs are images of shape ({shape}) as floats in [0, 1]: {scale}."


def _arch(model: VAE) -> str:
    return str(model.description["options"]["arch"]) if model.description else type(model.encoder.own_part).__name__


def _table(rows: Sequence[tuple[str, object]]) -> str:
    return "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows)


def _cell(value: object) -> str:
    """A value in a table of Markdown, where a bar would end it."""
    return str(value).replace("|", "\\|")


def _facts(model: VAE, card: Card) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("architecture", _arch(model)),
        ("prior", type(model.prior).__name__),
        ("likelihood", type(model.decoder.likelihood).__name__),
        ("latent dimensions", model.encoder.latent_dim + model.lower_dim),
        ("parameters", sum(p.numel() for p in model.parameters())),
    ]
    if card.run is not None:
        record = card.run.run.record
        rows += [("epoch of the weights", card.run.networks["epoch"]), ("trained on", record["device"])]
        used = ", ".join(f"{name} {v}" for name, v in record["versions"].items() if name != "source")
        rows.append(("versions", used))
    return rows


def _options(card: Card) -> str:
    """The options of the run that it used."""
    if card.run is None:
        return ""
    config, record = card.run.run.config.to_dict(), card.run.run.record
    unused = {*record["unused"], "set", "data_dir", "out", "device"}
    options = [(f"`{k}`", v) for k, v in config.items() if v is not None and k not in unused]
    return "\nOptions of the training:\n\n| option | value |\n|---|---|\n" + _table(options) + "\n"


def _needs(model: VAE) -> str:
    if not model.prior.needs_items:
        return ""
    return "\nIts prior is made of the training items, which are not part of this folder: give them as `data`.\n"


def _points(model: VAE) -> str:
    if model.prior.pseudocoreset is None and not hasattr(model.prior, "pseudo_inputs"):
        return ""
    return (
        " The file holds the points of the prior, which start as training items and may still show them: share it only "
        "if the data may be shared."
    )


def _chosen(entry: Mapping[str, object], refit: str | None) -> dict[str, object]:
    """The metrics of the prior that is shared: of the refit, or of the trained one."""
    return {k: v for k, v in entry.items() if k.partition("@")[2] == (refit or "") and k not in ("split", "seed")}


def _figures(evaluations: Sequence[Mapping[str, object]], card: Card, refit: str | None) -> str:
    if card.run is None or not evaluations:
        return "\nNone are recorded: `bype evaluate RUN` before sharing records them.\n"
    unit = unit_in_words(card.run.run.record["unit"])
    text = ""
    for entry in evaluations:
        rows = [
            f"| `{m.name}` | {m.value} | {m.unit} | {_cell(m.meaning)} |"
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
    known: Source | None,
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
