"""Evaluation at the edges: labels far apart, networks of NaN, kNN left out, very many components."""

import copy
import pickle
import tracemalloc

import pytest
import torch

import bype
from bype.distributions import mixtures
from bype.evaluation import knn_accuracy


def test_votes_take_memory_by_the_classes_that_there_are():
    generator = torch.Generator().manual_seed(0)
    base, query = torch.randn(500, 2, generator=generator), torch.randn(400, 2, generator=generator)
    labels, truth = (base[:, 0] > 0).long(), (query[:, 0] > 0).long()
    tracemalloc.start()
    far = knn_accuracy(base, labels * 65_535, query, truth * 65_535, [3, 5])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6, "with a column for every number up to the largest label it is 200 MB"
    assert far == knn_accuracy(base, labels, query, truth, [3, 5])


def test_a_label_that_the_reference_points_lack_is_never_right():
    base, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([4, 7])
    assert knn_accuracy(base, labels, torch.tensor([[0.1], [0.9]]), torch.tensor([4, 5]), [1]) == {1: 50.0}
    assert knn_accuracy(base, labels, torch.tensor([[0.1]]), torch.tensor([4]), [2]) == {2: 100.0}, "a tie: the smaller"


def test_networks_of_nan_are_named(tiny):
    model = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8)
    with torch.no_grad():
        model.encoder.loc_head.weight[0, 0] = torch.nan
    for call in (bype.evaluate, lambda m, d, **o: bype.evaluation.evaluate_under(m, d, m.prior, "x", **o)):
        with pytest.raises(bype.InputError, match=r"model: encoder\.loc_head\.weight has values that are not finite"):
            call(model, tiny, n_samples=3)


def test_knn_can_be_left_out(tiny):
    model = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8)
    assert "knn" in bype.evaluate(model, tiny, n_samples=3)
    assert "knn" not in bype.evaluate(model, tiny, n_samples=3, ks=())


def test_more_components_than_multinomial_takes_are_sampled_by_inversion(monkeypatch):
    monkeypatch.setattr(mixtures, "MULTINOMIAL_CATEGORIES", 2)
    monkeypatch.setattr(torch, "multinomial", lambda *a, **b: pytest.fail("too many categories"))
    chosen = mixtures.categorical_sample(torch.tensor([1.0, 0.0, 3.0]), 4000, torch.Generator().manual_seed(0))
    assert chosen.bincount(minlength=3).tolist()[1] == 0
    assert (chosen == 2).float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_a_trainer_and_its_optimizer_can_be_copied_and_the_copy_trains_alike(tiny):
    trainer = bype.Trainer(bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8), tiny, warmup=2)
    trainer.run_epoch()
    twin = copy.deepcopy(trainer)
    assert twin.run_epoch().val_loss == trainer.run_epoch().val_loss
    again = pickle.loads(pickle.dumps(trainer.optimizer))
    assert again.flat == trainer.optimizer.flat
    assert torch.equal(again.found_inf, trainer.optimizer.found_inf)
