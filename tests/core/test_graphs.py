"""The training step as a CUDA graph.

Without a GPU the step itself stands in for the graph, so that the code around it is tested: the rolled back warm-up,
tensors that stay in place, the short batch. On a GPU, `cuda_checks` compares graphs.
"""

import contextlib
import gc
import logging
import weakref

import pytest
import torch

import cuda_checks
from bype.core import graphs
from bype.training.trainer import Trainer


@pytest.fixture
def stand_in(monkeypatch):
    """Captures whose replay runs the step; returns the list of captured steps."""
    captured = []

    def record(step, generator):
        captured.append(step)
        return step

    monkeypatch.setattr(graphs, "available", lambda device: True)
    monkeypatch.setattr(graphs, "record_graph", record)
    monkeypatch.setattr(cuda_checks, "is_captured", lambda step: step in captured)
    return captured


@pytest.mark.parametrize("check", cuda_checks.CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
def test_around_the_capture(check, stand_in):
    cuda_checks.run(check, torch.device("cpu"))
    assert stand_in or check is cuda_checks.check_an_interrupted_evaluation_resumes  # which trains nothing


@pytest.mark.parametrize("check", cuda_checks.CHECKS + cuda_checks.CUDA_CHECKS, ids=lambda c: c.__name__)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu(check):
    cuda_checks.run(check, torch.device("cuda"))


def test_a_step_is_captured_once_in_a_run(stand_in):
    list(cuda_checks.trainer(cuda_checks.images(), "bype", epochs=6, coreset_interval=2))
    assert len(stand_in) == 2  # the network step and the inner step of step (ii)


def test_nothing_is_captured_on_a_cpu(monkeypatch):
    monkeypatch.setattr(graphs, "record_graph", lambda *a: pytest.fail("captured"))
    list(cuda_checks.trainer(cuda_checks.images(), "bype", epochs=2, coreset_interval=1))


def test_a_step_that_cannot_be_captured_runs_eagerly_and_the_log_says_why(monkeypatch, caplog):
    def refuse(step, generator):
        step()
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    data = cuda_checks.images()
    expected = list(cuda_checks.trainer(data, "bype", epochs=4, coreset_interval=2))
    monkeypatch.setattr(graphs, "available", lambda device: True)
    monkeypatch.setattr(graphs, "record_graph", refuse)
    with caplog.at_level(logging.WARNING, "bype"):
        got = list(cuda_checks.trainer(data, "bype", epochs=4, coreset_interval=2))
    assert [i.val_loss for i in got] == [i.val_loss for i in expected]
    lines = [r.getMessage() for r in caplog.records if "mse" not in r.getMessage()]
    assert len(lines) == 2
    assert "operation not permitted when stream is capturing" in lines[0]


def test_without_graphs_nothing_is_captured(stand_in):
    """Neither the network step nor step (ii)."""
    list(cuda_checks.trainer(cuda_checks.images(), "bype", graph=False, epochs=2, coreset_interval=1))
    assert not stand_in


def test_after_a_failed_capture_of_step_two_the_training_step_is_captured_again(monkeypatch):
    captured = []

    def record(step, generator):
        captured.append(step)
        if len(captured) == 2:  # of step (ii)
            raise RuntimeError("no")
        return step

    monkeypatch.setattr(graphs, "available", lambda device: True)
    monkeypatch.setattr(graphs, "record_graph", record)
    list(cuda_checks.trainer(cuda_checks.images(), "bype", epochs=3, coreset_interval=2))
    assert len(captured) == 3


def test_a_failed_capture_restores_streams_and_generators(monkeypatch):
    """With mocks of torch.cuda: the error raised is that of the step, not that of the end of the capture."""
    calls, alive = [], []

    class Generator:
        device = torch.device("cpu")

        def __init__(self, device=None):
            self.state = 0

        def get_state(self):
            return self.state

        def set_state(self, state):
            self.state = state

        def graphsafe_get_state(self):
            return self

        def graphsafe_set_state(self, fresh):
            calls.append(("fresh", fresh.state))

    class Graph:
        def register_generator_state(self, generator):
            alive.append(weakref.ref(self))
            calls.append("registered")

    class Recording:
        def __init__(self, graph, stream):
            assert isinstance(stream, Stream), "a stream of the generator's device"

        def __enter__(self):
            pass

        def __exit__(self, *error):
            raise RuntimeError("operation failed due to a previous error during capture")

    class Stream:
        device_index = 0

        def __init__(self, device=None):
            pass

    def step():
        raise RuntimeError("operation not permitted")

    mine, default = Generator(), Generator()
    mine.state, default.state = 3, 4
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Recording)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: calls.append(stream))
    monkeypatch.setattr(torch.cuda, "default_generators", (default,))
    with pytest.raises(RuntimeError, match="operation not permitted"):
        graphs.record_graph(step, mine)
    assert calls == ["registered", Stream, ("fresh", 3), ("fresh", 4)]
    gc.collect()
    assert alive[0]() is not None, "torch's allocator keeps a pointer to it"


def test_retrieval_changes_shapes_and_is_not_captured(stand_in, caplog):
    import bype

    data = cuda_checks.images()
    model = bype.build_model(data, prior="exemplar", exemplars=40, retrieve=5, latent_dim=5, hidden_dim=32)
    list(Trainer(model, data, epochs=2, warmup=1))
    assert not stand_in
    assert [r.getMessage() for r in caplog.records if "mse" not in r.getMessage()] == [
        "training: CUDA graph disabled: the number of components varies; running eagerly"
    ]


def test_the_warm_up_is_rolled_back_in_the_tensors_it_is_given(stand_in):
    moved, forgotten, generator = torch.zeros(2), torch.zeros(1), torch.Generator().manual_seed(4)
    expected = torch.Generator().manual_seed(4)

    def step():
        moved.add_(torch.rand(2, generator=generator))
        forgotten.add_(1)

    run = graphs.capture(step, [moved], generator, "a step").run
    assert torch.equal(moved, torch.zeros(2))
    assert forgotten.item() == graphs.WARMUPS
    run()
    assert torch.equal(moved, torch.rand(2, generator=expected))
