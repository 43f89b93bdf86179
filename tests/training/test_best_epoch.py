"""The best epoch: the first of equal ones, and the only one that is kept."""

import pytest
import torch

import bype
from bype.training import Trainer


def test_of_two_equal_validation_losses_the_first_is_best(tiny, monkeypatch):
    losses = iter([3.0, 2.0, 2.0, 2.5, 2.0])
    trainer = Trainer(bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8), tiny, epochs=5, warmup=1)
    monkeypatch.setattr(trainer, "validate", lambda: next(losses))
    states = []
    infos = []
    for info in trainer:
        infos.append(info)
        states.append({k: v.clone() for k, v in trainer.model.state_dict().items()})
    assert [info.best for info in infos] == [True, True, False, False, False]
    assert (trainer.best_epoch, trainer.best_val_loss) == (2, 2.0)
    assert all(torch.equal(trainer.best_state[k], states[1][k]) for k in states[1])


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_snapshot_of_the_best_epoch_is_no_copy_and_stays_as_it_is(tiny, averaging):
    model = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8, coreset="elbo")
    trainer = Trainer(model, tiny, epochs=4, warmup=1, averaging=averaging)
    assert trainer.run_epoch().best
    snapshot = trainer.snapshot()
    before = {name: value.clone() for name, value in snapshot.best.items()}
    assert all(value is trainer.best_state[name] for name, value in snapshot.best.items())
    for _ in range(3):
        trainer.run_epoch()
    trainer.load_best()
    trainer.run_epoch()
    assert all(torch.equal(value, before[name]) for name, value in snapshot.best.items())
