"""Training of a classifier that is stopped and continued."""

import pytest
import torch

import bype
from bype.evaluation.augmentation import synthetic_source
from bype.evaluation.classifier import ClassifierOptions, train_classifier

OPTIONS = ClassifierOptions(epochs=4, batch_size=300, hidden_dim=8, seed=2)


class Stop(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("method", ["baseline", "prior"])
def test_a_continued_training_ends_with_the_bits_of_an_unbroken_one(method):
    data = bype.load("digits")
    model = bype.build_model(data, prior="bype", n_components=20, latent_dim=3, hidden_dim=8).eval()
    source = synthetic_source(model, data, method)
    kept, losses = {}, []

    def stop(info):
        losses.append(info.loss)
        if info.epoch == 2:
            kept.update({name: value.clone() for name, value in info.state().items()})
            raise Stop

    with pytest.raises(Stop):
        train_classifier(data, source, OPTIONS, on_epoch=stop)
    continued = train_classifier(data, source, OPTIONS, state=kept, on_epoch=lambda info: losses.append(info.loss))
    whole = []
    unbroken = train_classifier(data, source, OPTIONS, on_epoch=lambda info: whole.append(info.loss))
    assert losses == whole
    assert len(whole) == 4
    theirs = unbroken.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in continued.state_dict().items())


def test_a_finished_state_is_the_classifier():
    data = bype.load("digits")
    states, epochs = [], []
    first = train_classifier(data, None, OPTIONS, on_epoch=lambda info: states.append(info.state()))
    again = train_classifier(data, None, OPTIONS, state=states[-1], on_epoch=lambda info: epochs.append(info.epoch))
    assert not epochs
    assert torch.equal(first.predict(data.test.scaled()), again.predict(data.test.scaled()))


def test_the_loss_of_an_epoch_is_the_mean_over_all_images_whatever_the_batches():
    data = bype.load("digits")
    losses = []
    for batch_size in (len(data.train), 1000, 7):
        options = ClassifierOptions(epochs=1, batch_size=batch_size, hidden_dim=8, lr=0.0, seed=2)
        train_classifier(data, None, options, on_epoch=lambda info: losses.append(info.loss))
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-5)
