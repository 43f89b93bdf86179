"""The best epoch: the first of equal ones, and the only one that is kept."""

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
