"""Train, evaluate and sample a model with a pseudocoreset prior on 8x8 digits. Takes a minute on two cores."""

import torch

import bype

data = bype.load("digits")
model = bype.build_model(data, prior="bype", likelihood="gaussian", n_components=100, latent_dim=16, seed=0)
history = bype.train(model, data, epochs=60, warmup=20, lr=1e-3)  # the model ends with the best epoch's parameters
best = min(info.val_loss for info in history)  # minus the evidence lower bound, nats per validation example
with torch.no_grad():
    log_px = bype.iwae(model, data.test.scaled(), n_samples=500)  # nats, one value per test example
samples = model.sample(64)  # .images (64, 1, 8, 8), and .components: the pseudo-point of each
print(f"validation loss {best:.2f}, test log-likelihood {log_px.mean():.2f} nats")
print(f"64 samples {tuple(samples.images.shape)} from {len(samples.components.unique())} pseudo-points")
