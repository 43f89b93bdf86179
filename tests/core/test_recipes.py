"""Recipes: named sets of options, overridden option by option."""

import dataclasses
import json

import pytest

from bype.core.config import Config
from bype.core.errors import InputError
from bype.core.recipes import RECIPES, Recipe, training_options
from bype.experiments.records import hash_settings, settings_hash
from bype.training.tail import Tail

#: What `train` did before there were recipes.
FORMER = {"epochs": 4000, "warmup": 100, "patience": 50, "batch_size": 100, "lr": 5e-4, "likelihood": "mse"}


def test_paper_is_what_training_did_before_there_were_recipes():
    config = Config("mnist", recipe="paper")
    assert {name: getattr(config, name) for name in FORMER} == FORMER
    assert (config.schedule, config.lr_warmup, config.averaging) == ("constant", 0, 0.0)
    assert config == config.sized(50_000)


def test_a_config_of_a_run_that_names_no_recipe_is_paper():
    assert Config.from_dict({"set": "mnist"}, "config.json") == Config("mnist", recipe="paper")


def test_every_cell_of_the_ledger_keeps_its_hash(root):
    names = {f.name for f in dataclasses.fields(Config)}
    records = [json.loads(path.read_text()) for path in (root / "results" / "ledger").glob("*.json")]
    checked = 0
    for record in records:
        assert hash_settings(record["settings"]) == record["settings_hash"]
        if record["protocol"] == "fast":
            continue
        options = {k: v for k, v in record["settings"].items() if k in names}
        config = Config(**options, seed=record["seed"])
        former = record["prior"] == "vamp" and "points" not in record["settings"]  # a later note tells these apart
        assert former or settings_hash(config) == record["settings_hash"], record["settings"]
        checked += 1
    assert checked >= 38


def test_single_options_override_a_recipe_and_a_value_of_paper_is_kept():
    config = Config("mnist", recipe="fast", lr=5e-4, likelihood="mse", epochs=4000)
    assert (config.lr, config.likelihood, config.epochs) == (5e-4, "mse", 4000)
    assert config.schedule == RECIPES["fast"].options["schedule"]
    assert Config("mnist", recipe="paper", epochs=30).warmup == 100
    line = Config("mnist", recipe="paper", epochs=30, lr=1e-3).recipe_line()
    assert line == "recipe paper, but --epochs 30, --lr 0.001"
    assert Config("mnist", recipe="fast").recipe_line() == "recipe fast"


def test_epochs_follow_the_size_of_the_data_and_the_warm_up_the_epochs():
    recipe = Recipe("", epochs=60, warmup=0.2, scaled=True, least=20, most=400)
    sizes = (1_000, 50_000, 100_000, 1_000_000)
    assert [recipe.epochs_for(n) for n in sizes] == [400, 60, 30, 20]
    assert [recipe.warmup_for(e) for e in (400, 60, 30, 3)] == [80, 12, 6, 1]
    fast = RECIPES["fast"]
    config = Config("mnist", recipe="fast")
    assert (config.epochs, config.warmup) == (None, None)
    sized = config.sized(100_000)
    assert sized.epochs == fast.epochs_for(100_000)
    assert sized.warmup == fast.warmup_for(sized.epochs)
    assert Config("mnist", recipe="fast", epochs=30).warmup == fast.warmup_for(30)
    assert Config("mnist", recipe="fast", warmup=3).sized(100_000).warmup == 3
    assert sized.sized(10) == sized


@pytest.mark.parametrize("n", [100, 1_000, 50_000, 1_000_000, 100_000_000])
def test_fast_trains_data_of_any_size_sensibly(n):
    config = Config("mnist", recipe="fast").sized(n)
    assert 0 < config.warmup <= config.epochs // 4, "most epochs have the whole bound"
    assert 0 < config.lr_warmup < config.epochs, "the rate rises, and falls for most of the run"
    assert 10 <= config.epochs <= 100
    tail = Tail(config.importance, config.epochs, config.warmup)
    assert sum(tail.samples_in(epoch) > 1 for epoch in range(1, config.epochs + 1)) == round(0.1 * config.epochs) >= 1
    steps = config.epochs * -(-n // config.batch_size)
    assert steps >= min(100, n), "enough steps to train at all"
    if 50_000 <= n <= 500_000:
        assert steps == pytest.approx(25_000, rel=0.05), "larger data get as many steps as MNIST"
    if n > 500_000:
        assert config.epochs == 10, "and are seen ten times at least"
    assert "patience" in config.unused(), "the run ends with its rate"


@pytest.mark.parametrize("n", [100, 1_000, 1_000_000])
def test_paper_does_not_depend_on_the_size_of_the_data(n):
    config = Config("mnist", recipe="paper").sized(n)
    assert (config.epochs, config.warmup, config.patience) == (4000, 100, 50)
    assert "patience" not in config.unused()
    assert training_options("paper", n, {}) == training_options("paper", 50_000, {})


def test_patience_is_unused_if_the_rate_decays():
    assert "patience" in Config("mnist", schedule="cosine").unused()
    assert Config("mnist", schedule="linear").without_effect(["patience"]) == "unused with schedule linear: --patience"
    assert "patience" not in Config("mnist", averaging=0.999).unused()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "slow"}, "--recipe: expected one of paper, fast, got 'slow'"),
        ({"averaging": 1.0}, "--averaging: expected below 1, got 1.0"),
        ({"schedule": "step"}, "--schedule: expected one of constant, linear, cosine, got 'step'"),
        ({"lr_warmup": -1}, "--lr-warmup: expected at least 0, got -1"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_its_flag(options, message):
    with pytest.raises(InputError, match=message):
        Config("mnist", **options)
