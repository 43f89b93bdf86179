"""Training on items that are read again in each epoch: what the reader is given, and the state it reads in."""

import dataclasses

import pytest
import torch

import bype


class Readings:
    """Reads the stored items again, and notes each epoch's seed and the precision of products meanwhile."""

    knows_rows = True

    def __init__(self, images):
        self.images, self.seeds, self.precisions = images, [], []

    def steps(self, batch_size):
        return -(-len(self.images) // batch_size)

    def epoch(self, batches, seed):
        self.seeds.append(seed)
        for rows in batches:
            self.precisions.append(torch.backends.cuda.matmul.fp32_precision)
            yield self.images.pixels[rows].numpy()


@pytest.fixture
def readings(tiny):
    return Readings(tiny.train)


def train(data, readings, epochs=2):
    model = bype.build_model(data, prior="standard", latent_dim=2, hidden_dim=4)
    bype.train(model, dataclasses.replace(data, fresh=readings), epochs=epochs, warmup=0)
    return model


def test_the_seed_of_an_epoch_is_one_that_numpy_takes_and_each_epoch_has_another(tiny, readings):
    train(tiny, readings, epochs=4)
    assert len(set(readings.seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in readings.seeds)


def test_items_that_are_read_again_are_trained_on_in_full_float32(tiny, readings):
    backend = torch.backends.cuda.matmul
    before = backend.fp32_precision
    backend.fp32_precision = "tf32"
    try:
        train(tiny, readings)
    finally:
        backend.fp32_precision = before
    assert set(readings.precisions) == {"ieee"}


def test_unchanged_items_are_trained_on_to_the_bits_of_the_stored_ones(tiny, readings):
    fresh = train(tiny, readings)
    stored = bype.build_model(tiny, prior="standard", latent_dim=2, hidden_dim=4)
    assert any(not torch.equal(a, b) for a, b in zip(fresh.parameters(), stored.parameters(), strict=True))
    assert len(readings.seeds) == 2


def test_the_learning_rate_of_items_that_are_read_again_follows_its_schedule(tiny, readings):
    model = bype.build_model(tiny, prior="standard", latent_dim=2, hidden_dim=4)
    data = dataclasses.replace(tiny, fresh=readings)
    rates = []
    trainer = bype.Trainer(model, data, epochs=4, warmup=0, batch_size=12, lr=1e-2, schedule="linear")
    for _ in range(4):
        trainer.run_epoch()
        rates.append(float(trainer.optimizer.param_groups[0]["lr"]))
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4
    assert rates[-1] < 0.1 * 1e-2
