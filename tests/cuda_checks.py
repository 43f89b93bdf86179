"""Checks for a GPU, as plain functions: `python tests/cuda_checks.py [OUT.json]` runs them without pytest.

Each compares with the eager step or with the CPU, raises AssertionError if they differ, and returns its measurements.
"""

import contextlib
import copy
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

# cuBLAS reads it once, at the first matmul of the process, and the deterministic runs are not the first check.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import bype
from bype import evaluation
from bype.core import graphs
from bype.core.files import write_json
from bype.core.tensors import read_tensors
from bype.priors.pseudocoreset import PseudocoresetPrior
from bype.pseudocoreset.paper import Algorithm2
from bype.runs.scoring import PartialScores
from bype.training.trainer import Trainer

STEPS = 20
PRIORS = ("standard", "vamp", "exemplar", "bype", "bype-learned")


class _Lines(logging.Handler):
    """Collects the log lines that say why a step was not captured; not those about options."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record):
        if not record.getMessage().startswith(("precision", "warmup", "likelihood", "arrays: ")):
            self.lines.append(record.getMessage())


def is_captured(step):
    return isinstance(getattr(step, "__self__", None), torch.cuda.CUDAGraph)


def images(n=300, shape=(1, 12, 12), seed=0):
    pixels = torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed)).byte()
    return bype.from_arrays(pixels.numpy(), torch.arange(n).remainder(10).numpy())


def sized(device, built, n, batch_size):
    """Images, the batch size and options; on a CPU, convolutional networks get a third of the images, small ones."""
    if device.type == "cuda" or built.get("arch", "hvae") == "hvae":
        return images(n).to(device), batch_size, built
    built = built | {"n_components": 8, "likelihood": "gaussian"}  # no clamp, which could zero all gradients
    return images(n // 3, (1, 8, 8)).to(device), -(-batch_size // 3), built


def trainer(data, prior, *, dtype=torch.float32, graph=True, built=None, **options):
    model = bype.build_model(
        data,
        prior=prior.removesuffix("-learned"),
        coreset="elbo" if prior.endswith("learned") else "paper",
        **({"n_components": 30, "exemplars": 40, "latent_dim": 5, "hidden_dim": 32} | (built or {})),
    ).to(dtype)
    given = {"epochs": STEPS, "batch_size": 60, "precision": "fp32"} | options
    return Trainer(model, data, graph=graph, warmup=min(10, given["epochs"]), **given)


def _same_noise_same_steps(device, dtype, tolerance):
    """Compares loss and weights of captured and eager steps over 20 epochs of one full batch."""
    data = images().to(device)  # 240 training examples
    worst = {}
    for prior in PRIORS:
        captured, eager = (trainer(data, prior, dtype=dtype, graph=graph, batch_size=240) for graph in (True, False))
        worst[prior] = 0.0
        for a, b in zip(captured, eager, strict=True):
            worst[prior] = max(worst[prior], abs(a.loss - b.loss) / abs(b.loss))
            if dtype == torch.float64:
                ours, theirs = captured.model.state_dict(), eager.model.state_dict()
                apart = {name: (value - theirs[name]).abs().max().item() for name, value in ours.items()}
                worst[prior] = max(worst[prior], *apart.values())
                assert max(apart.values()) < tolerance, (prior, a.epoch, max(apart, key=apart.get), apart)
        assert worst[prior] < tolerance, (prior, worst[prior])
    return worst


def check_captured_steps_equal_eager_ones_in_float64(device):
    return _same_noise_same_steps(device, torch.float64, 1e-9)


def check_captured_steps_equal_eager_ones_in_float32(device):
    return _same_noise_same_steps(device, torch.float32, 1e-4)


def check_every_kind_of_step_is_captured(device):
    """Tries networks, likelihoods, precisions and options; `run` fails if a line says that a step was not captured."""
    cuda = device.type == "cuda"
    kinds = [("bype", {"likelihood": kind}, {}) for kind in ("gaussian", "bernoulli", "logistic")]
    kinds += [("bype", {"arch": arch}, {}) for arch in ("hvae", "convhvae", "celeba")]
    kinds += [(prior, {"reencode": 0.5}, {}) for prior in ("bype", "vamp")]
    kinds += [(prior, {}, {"precision": "bf16"}) for prior in ("bype", "exemplar", "standard")]
    kinds += [("bype", {}, {"precision": "tf32"}), ("vamp", {}, {"precision": "tf32"})] if cuda else []
    for prior, built, options in kinds:
        data, batch_size, built = sized(device, built, 100, 20)
        settings = {
            "epochs": 2,
            "batch_size": batch_size,
            "coreset_interval": 1,
            "strategy": Algorithm2(steps=2),
        } | options
        t = trainer(data, prior, built=built, **settings)
        infos = list(t)
        assert len(infos) == 2, (prior, built, options)
        assert all(i.skipped_steps == 0 for i in infos), (prior, built, options, infos)
        for step in [t.steps._full_step.run, *([t.strategy.prepared.run] if prior == "bype" else [])]:
            assert is_captured(step) or not graphs.available(device), (prior, built, options)
    return {"kinds": len(kinds)}


def check_a_short_last_batch_is_used(device):
    """240 examples in batches of 100: the last 40 count, and the captured steps of the next epoch see their update."""
    data = images().to(device)
    captured, eager = (
        trainer(data, "bype", dtype=torch.float64, graph=graph, batch_size=100, epochs=5, coreset_interval=2)
        for graph in (True, False)
    )
    worst = max(abs(a.loss - b.loss) for a, b in zip(captured, eager, strict=True))
    assert worst < 1e-9, worst
    return {"worst": worst}


def check_step_two_captured_equals_the_eager_one(device):
    """Also in a second update, which reuses the graph of the first one."""
    data = images().to(device)
    model = trainer(data, "bype", dtype=torch.float64).model
    other = copy.deepcopy(model)
    strategy, worst = Algorithm2(steps=STEPS), 0.0
    generator, again = (torch.Generator(device).manual_seed(3) for _ in range(2))
    for _ in range(2):
        strategy.update(model, data.train, generator)
        eager = Algorithm2(steps=STEPS)
        step, adam = eager.prepare(other, data.train, again)
        with torch.no_grad():
            adam.reset()
            for _ in range(STEPS):
                step()
        for ours, theirs in zip(model.prior.buffers(), other.prior.buffers(), strict=True):
            worst = max(worst, ((ours - theirs).abs().max() / theirs.abs().max()).item())
    assert isinstance(model.prior, PseudocoresetPrior)
    assert worst < 1e-9, worst
    return {"worst": worst}


def check_a_step_that_is_not_finite_is_skipped(device):
    """A NaN in a pixel affects only its own batch; the captured step changes nothing."""
    data = images()
    pixels = data.train.scaled().clone()
    pixels[7] = torch.nan
    object.__setattr__(data.train, "pixels", pixels)
    object.__setattr__(data.train, "levels", None)
    t = trainer(data.to(device), "standard", epochs=2)
    infos = list(t)
    assert [i.skipped_steps for i in infos] == [1, 1], infos
    assert all(p.isfinite().all() for p in t.model.parameters())
    return {"skipped": 1}


def check_a_resumed_run_continues(device):
    """Loads state saved after two epochs into a trainer that has a graph, which must be captured again."""
    data = images().to(device)
    one = trainer(data, "bype", dtype=torch.float64, epochs=4, coreset_interval=1)
    infos = [one.run_epoch() for _ in range(2)]
    tensors, counters = one.state()
    saved = {k: v.detach().cpu().clone() for k, v in tensors.items()}
    best = {k: v.cpu() for k, v in one.best_state.items()}
    two = trainer(data, "bype", dtype=torch.float64, epochs=4, coreset_interval=1)
    two.run_epoch()  # so that it has captured a graph
    two.load_state(saved, counters, best)
    infos = [(one.run_epoch(), two.run_epoch()) for _ in range(2)]
    worst = max(abs(a.val_loss - b.val_loss) for a, b in infos)
    ours, theirs = one.model.state_dict(), two.model.state_dict()
    worst = max(worst, *((value - theirs[name]).abs().max().item() for name, value in ours.items()))
    assert worst < 1e-9, worst
    return {"worst": worst}


def check_a_deterministic_run_is_bit_identical(device):
    """Compares uninterrupted with resumed runs, with short batches, step (ii), a feature cache and retrieval."""
    kinds = [(prior, {}) for prior in PRIORS] + [("bype", {"reencode": 0.5}), ("exemplar", {"retrieve": 4})]
    kinds += [("bype", {"arch": arch}) for arch in ("hvae", "convhvae", "celeba")]
    for prior, built in kinds:
        data, batch_size, built = sized(device, built, 150, 50)

        def made(prior=prior, built=built, data=data, batch_size=batch_size):
            settings = {"epochs": 3, "batch_size": batch_size, "coreset_interval": 2, "strategy": None}
            if prior == "bype":
                settings["strategy"] = Algorithm2(steps=2)
            graph = "retrieve" not in built  # the number of components varies, which would be logged
            return trainer(data, prior, built=built, deterministic=True, graph=graph, **settings)

        whole, first, second = made(), made(), made()
        lines = [info.val_loss for info in whole]
        part = [first.run_epoch().val_loss for _ in range(2)]
        second.load_state(*(first.state()), first.best_state)
        assert lines == [*part, second.run_epoch().val_loss], (prior, built, lines)
        ours, theirs = whole.model.state_dict(), second.model.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), (prior, built)
    return {"kinds": len(kinds)}


def check_importance_weights_are_those_of_the_cpu(device):
    """Compares log p(x|z) p(z) / q(z|x) of a trained model at the same z on both devices."""
    data = images()
    t = trainer(data, "bype", dtype=torch.float64, epochs=5)
    list(t)
    model, x = t.model.eval(), data.test.scaled(dtype=torch.float64)
    with torch.no_grad():
        z = model.encoder(x).sample((50,), generator=torch.Generator().manual_seed(1))
        weights = []
        for where in (torch.device("cpu"), device):
            m, images_there, there = copy.deepcopy(model).to(where), x.to(where), z.to(where)
            log_p = m.likelihood_terms(images_there, there).log_weight + m.prior(m.encoder).log_prob(there)
            weights.append((log_p - m.encoder(images_there).log_prob(there)).cpu())
    worst = ((weights[1] - weights[0]).abs() / weights[0].abs()).max().item()
    assert worst < 1e-9, worst
    return {"worst": worst}


class _Stopped(BaseException):
    pass


def check_an_interrupted_evaluation_resumes(device):
    """Interrupts after 12 of 30 examples, in batches of four; the resumed evaluation uses the same noise."""
    data = images().to(device)
    model = trainer(data, "bype", dtype=torch.float64).model
    examples, before = data.train.first(30), evaluation.likelihood.NOISE_ELEMENTS

    def progress(done, total):
        if done >= 12:
            raise _Stopped

    evaluation.likelihood.NOISE_ELEMENTS = 4 * 20 * 5
    try:
        whole = evaluation.log_likelihood(model, examples, 20)
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "part"
            with contextlib.suppress(_Stopped):
                evaluation.log_likelihood(model, examples, 20, scoring=PartialScores(part, {}), progress=progress)
            kept = len(read_tensors(part)[0]["values"])
            rest = evaluation.log_likelihood(model, examples, 20, scoring=PartialScores(part, {}))
    finally:
        evaluation.likelihood.NOISE_ELEMENTS = before
    worst = (rest - whole).abs().max().item()
    assert kept == 12, kept
    assert worst < 1e-9, worst
    return {"worst": worst}


def check_a_run_saved_in_a_thread_resumes(device):
    """On a GPU an epoch is saved in a thread during the next epoch; the interrupted run resumes from it."""
    config = bype.Config(
        "digits", likelihood="gaussian", n_components=30, latent_dim=5, hidden_dim=32, epochs=5, warmup=2,
        coreset_interval=2, coreset_steps=3, precision="fp32", device=device.type,
    )  # fmt: skip

    def stop(info, trainer):
        if info.epoch == 3:
            raise _Stopped

    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder) / "whole", Path(folder) / "part"
        bype.fit(config, whole)
        with contextlib.suppress(_Stopped):
            bype.fit(config, part, on_epoch=stop)
        bype.fit(config, part, resume=True)
        ours, theirs = ([line["val_loss"] for line in bype.Run(run).metrics.read()] for run in (part, whole))
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    assert worst < 1e-4, (ours, theirs)
    return {"worst": worst}


def cuda_check_a_step_that_cannot_be_captured_runs_eagerly(device):
    """One line says why; the values are those of the eager step, also for a later graph with the same generator."""
    total, generator, again = torch.zeros(3, device=device), *(torch.Generator(device).manual_seed(5) for _ in range(2))

    def step():
        total.add_(torch.rand(3, generator=generator, device=device))

    def reads():
        step()
        total.sum().item()

    handler, log = _Lines(), graphs.log
    graphs.log = logging.getLogger("cuda_checks")
    graphs.log.addHandler(handler)
    try:
        eager = graphs.capture(reads, [total], generator, "a step that reads").run
        expected = torch.zeros(3, device=device)
        for run in (eager, eager, graphs.capture(step, [total], generator, "a step").run, eager):
            run()
            expected += torch.rand(3, generator=again, device=device)
            assert torch.equal(total, expected), (total, expected)
    finally:
        graphs.log = log
    assert len(handler.lines) == 1, handler.lines
    return {"line": handler.lines[0]}


def check_steps_do_not_synchronise(device):
    """Replays of the steps of an epoch never synchronise with the device, and their losses are stored."""
    t = trainer(images().to(device), "bype", epochs=3, batch_size=60)
    t.run_epoch()
    t.model.train()
    t.steps._line.zero_()
    t.steps._lines.zero_()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        for index in torch.arange(240, device=device).split(60):
            t.steps._index.copy_(index)
            t.steps._full_step.run()
    finally:
        if cuda:
            torch.cuda.set_sync_debug_mode("default")
            torch.cuda.synchronize(device)
    assert (t.steps._lines[:, 0] < 0).all(), t.steps._lines
    assert t.steps._line.item() == 4
    return {"steps": 4}


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
CUDA_CHECKS = [value for name, value in list(globals().items()) if name.startswith("cuda_check_")]


def run(check, device):
    """Runs a check; fails also if a line was logged, which says that a step was not captured."""
    handler = _Lines()
    logging.getLogger("bype").addHandler(handler)
    try:
        measured = check(device)
    finally:
        logging.getLogger("bype").removeHandler(handler)
    assert not handler.lines, handler.lines
    return measured


def main():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results, failed = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}, 0
    for check in (*CHECKS, *(CUDA_CHECKS if device.type == "cuda" else ())):
        start, name = time.perf_counter(), check.__name__.removeprefix("cuda_").removeprefix("check_")
        try:
            results[name] = {"passed": True, **run(check, device)}
        except Exception as e:
            failed += 1
            results[name] = {"passed": False, "why": f"{type(e).__name__}: {e}"[:500]}
        results[name]["seconds"] = round(time.perf_counter() - start, 2)
        print(("passed" if results[name]["passed"] else "FAILED"), name, results[name], flush=True)
        if len(sys.argv) > 1:
            write_json(Path(sys.argv[1]), results)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
