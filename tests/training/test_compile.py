"""`compile`: used where it pays, without changing anything but rounding, and kept by a resumed run."""

import logging
import math

import pytest
import torch

import bype
from bype.training import compiling
from bype.training.compiling import CompiledBound
from bype.training.trainer import Trainer

SMALL = {"n_components": 6, "exemplars": 10, "latent_dim": 3, "hidden_dim": 6}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def graphs(monkeypatch):
    """The number of graphs compiled by a backend that needs no compiler, and runs them as they are."""
    made = []

    def backend(graph, inputs):
        made.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(compiling, "BACKEND", backend)
    return made


@pytest.fixture
def pays(monkeypatch):
    """Sets the measured seconds of a plain and of a compiled pass."""

    def times(plain, compiled):
        seconds = iter([plain, compiled])
        monkeypatch.setattr(CompiledBound, "_seconds", lambda *_: next(seconds))

    times(1e6, 0.0)
    return times


def a_trainer(data, prior="bype", **options):
    model_options = {k: options.pop(k) for k in ("reencode",) if k in options}
    model = bype.build_model(data, prior=prior, **SMALL, **model_options)
    options = {"epochs": 4, "warmup": 1, "batch_size": 20, "lr": 0.01, "schedule": "linear", "compile": True} | options
    return Trainer(model, data, strategy="none" if prior == "bype" else None, **options)


def trained(own):
    return [info.val_loss for info in own], own.model.state_dict()


@pytest.mark.parametrize(("prior", "options"), [("standard", {"gradient": "path"}), ("bype", {}), ("exemplar", {})])
def test_a_backend_that_changes_nothing_ends_in_the_same_bits(tiny, graphs, pays, prior, options):
    assert len(tiny.train) % 20, "the last batch is shorter"
    compiled, plain = a_trainer(tiny, prior, **options), a_trainer(tiny, prior, compile=False, **options)
    compiled.run_epoch()
    first = len(graphs)
    assert first
    losses, state = trained(compiled)
    assert len(graphs) == first, "nothing is compiled again for later epochs, shorter batches or other random states"
    other_losses, other = trained(plain)
    assert losses == other_losses[1:]
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_a_compiled_gradient_differs_by_rounding_only(tiny, pays, monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    losses, state = trained(a_trainer(tiny, "vamp"))
    other_losses, other = trained(a_trainer(tiny, "vamp", compile=False))
    assert losses == pytest.approx(other_losses, rel=1e-4)
    for name, value in state.items():
        torch.testing.assert_close(value, other[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("saved", "used"), [(1e6, True), (1e-9, False), (-1.0, False)])
def test_it_is_used_where_it_saves_more_than_compiling_takes(tiny, graphs, pays, caplog, saved, used):
    pays(max(saved, 0.0), max(-saved, 0.0))
    own = a_trainer(tiny)
    with caplog.at_level(logging.WARNING, "bype"):
        own.run_epoch()
    assert own.steps.compiled.used is used
    assert own.state()[1]["compiled"] is used
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("compile:")]
    assert len(lines) == 1
    assert lines[0].endswith("steps, used" if used else "steps, not used")
    steps = 4 * math.ceil(len(tiny.train) / 20)
    assert f"saved in {steps} steps" in lines[0]


def test_without_a_compiler_one_line_says_so_and_training_is_plain(tiny, monkeypatch, caplog):
    def backend(graph, inputs):
        raise RuntimeError("No working C++ compiler found\nsecond line")

    monkeypatch.setattr(compiling, "BACKEND", backend)
    own = a_trainer(tiny)
    with caplog.at_level(logging.WARNING, "bype"):
        losses, state = trained(own)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("compile:")]
    assert len(lines) == 1
    assert "not possible here" in lines[0]
    assert "\n" not in lines[0]
    other_losses, other = trained(a_trainer(tiny, compile=False))
    assert losses == other_losses
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_measuring_changes_nothing(tiny, graphs):
    own = a_trainer(tiny, reencode=0.5)
    own.model.train()
    own.model.begin_epoch()
    assert own.model.cached_features is not None
    before = {name: t.clone() for name, t in [*own.model.named_parameters(), *own.model.named_buffers()]}
    states = own.generator.get_state(), torch.get_rng_state()
    index = torch.arange(20)
    own.steps.compiled.decide(tiny.train.scaled(index), index, 10)
    assert graphs
    after = dict([*own.model.named_parameters(), *own.model.named_buffers()])
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None for p in own.model.parameters())
    assert torch.equal(own.generator.get_state(), states[0])
    assert torch.equal(torch.get_rng_state(), states[1])


@pytest.mark.parametrize("saved", [1e6, -1.0])
def test_a_resumed_run_keeps_the_decision_whatever_it_would_measure(tiny, graphs, pays, saved):
    pays(max(saved, 0.0), max(-saved, 0.0))
    whole = a_trainer(tiny)
    whole.run_epoch()
    tensors, counters = whole.state()
    tensors, best = ({k: v.clone() for k, v in t.items()} for t in (tensors, whole.best_state))
    expected = trained(whole)
    pays(max(-saved, 0.0), max(saved, 0.0))
    own = a_trainer(tiny)
    own.load_state(tensors, counters, best)
    losses, state = trained(own)
    assert own.steps.compiled.used is (saved > 0)
    assert losses == expected[0]
    assert all(torch.equal(value, expected[1][name]) for name, value in state.items())


def test_a_run_without_the_option_compiles_nothing(tiny, graphs):
    own = a_trainer(tiny, compile=False)
    own.run_epoch()
    assert not graphs
    assert own.steps.compiled is None
    assert "compiled" not in own.state()[1]
