"""Fine-tuning: what it begins with, what stays, and which words configure a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.models.artifact import Artifact
from stream_detector.records import Readings
from stream_detector.streaming.weights import Weights, for_channels
from stream_detector.training.fit import FitOptions
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train
from stream_detector.training.transfer import aligned, configured, fine_tune

WINDOW = 16
SMALL = TrainOptions("encoder", WINDOW, fit=FitOptions(steps=30), config={"width": 8, "layers": 1, "feedforward": 8})


def history(channels: tuple[str, ...], steps: int = 300, seed: int = 0) -> History:
    """Three sensors whose channels are waves with noise."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(steps * 3) // 3 / 4)[:, None]
    values = wave + rng.normal(size=(steps * 3, len(channels))) / 5
    return History(
        Readings(np.tile(np.arange(3), steps), np.arange(steps * 3) // 3 * 1000, values), list("xyz"), channels
    )


@pytest.fixture(scope="module")
def start() -> Artifact:
    """Weights for two channels."""
    return train(history(("a", "b")), SMALL, lambda *_: None)


def moved(before: Artifact, after: Artifact) -> set[str]:
    """Names of the parameters that are not the same."""
    old = dict(before.model.named_parameters())
    return {name for name, value in after.model.named_parameters() if not torch.equal(value, old[name])}


def test_it_goes_on_from_the_weights_and_names_them(start: Artifact) -> None:
    """Another history moves all weights a little; those given stay as they are; the parent is known."""
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    made = fine_tune(history(("a", "b"), 120, seed=1), start, SMALL, lambda *_: None)
    assert made.parent == start.digest
    assert moved(start, made) == {name for name, _ in start.model.named_parameters()}
    assert all(torch.equal(value, before[name]) for name, value in start.model.state_dict().items())
    assert made.digest != start.digest


def test_frozen_weights_stay_but_for_the_last_layer(start: Artifact) -> None:
    """Only the head learns, and it does."""
    made = fine_tune(history(("a", "b"), 120, seed=1), start, SMALL, lambda *_: None, frozen=True)
    assert moved(start, made) == {"head.weight", "head.bias"}


def test_what_learns_nothing_cannot_be_frozen() -> None:
    """A moving z-score has no weights."""
    start = train(history(("a",)), TrainOptions("moving-z", WINDOW), lambda *_: None)
    with pytest.raises(ConfigError, match="moving-z learns nothing by steps: leave out --frozen"):
        fine_tune(history(("a",)), start, TrainOptions("moving-z", WINDOW), lambda *_: None, frozen=True)


def test_few_readings_do_not_narrow_what_tranad_takes_for_usual() -> None:
    """A channel that stands still in the few keeps the range that the weights know; fresh weights know no better."""
    config = {"width": 8, "heads": 2, "feedforward": 8}
    options = TrainOptions("tranad", WINDOW, fit=FitOptions(steps=30), config=config)
    start = train(history(("a", "b")), options, lambda *_: None)
    few = history(("a", "b"), 120, seed=1)
    few.readings.values[:, 1] = 0.5
    made, fresh = fine_tune(few, start, options, lambda *_: None), train(few, options, lambda *_: None)
    before, after, without = (one.model.state_dict()["span"] for one in (start, made, fresh))
    assert (after >= before).all()
    assert without[1] < before[1] / 2


def test_it_stops_where_held_out_readings_gain_nothing(start: Artifact) -> None:
    """On noise there is nothing to learn: the weights that it began with come back after a few looks."""
    rng = np.random.default_rng(0)
    some = history(("a", "b"), 200)
    noise = replace(some, readings=replace(some.readings, values=rng.normal(size=some.readings.values.shape)))
    steps: list[int] = []
    options = replace(SMALL, fit=replace(SMALL.fit, steps=2000, epochs=2000, check_every=5))
    fine_tune(noise, start, options, lambda done, total, loss: steps.append(done))
    assert steps[-1] < 1500


def test_channels_in_another_order_are_the_same_channels(start: Artifact) -> None:
    """Columns are found by name."""
    swapped = history(("b", "a"), 60)
    found = aligned(swapped, start)
    assert found.channels == ("a", "b")
    np.testing.assert_array_equal(found.readings.values, swapped.readings.values[:, ::-1])


def test_weights_that_look_at_channels_together_fit_no_others(start: Artifact) -> None:
    """The error says which weights do; weights for each channel alone fit, and can be trained on."""
    with pytest.raises(ArtifactError, match=r"--set shared=true"):
        for_channels(start, ("a", "b", "c"))
    shared = train(history(("value",)), replace(SMALL, config={**SMALL.config, "shared": True}), lambda *_: None)
    three = for_channels(shared, ("a", "b", "c"))
    made = fine_tune(history(("a", "b", "c"), 120), three, SMALL, lambda *_: None)
    assert made.channels == ("a", "b", "c")
    assert moved(shared, made)


def test_the_pretrained_weights_are_a_place_to_begin() -> None:
    """By the name of their model, for any channels."""
    options = TrainOptions("encoder", 128, fit=FitOptions(steps=20))
    begin = Weights(128).artifact("encoder", ("a", "b"))
    made = fine_tune(history(("a", "b"), 300), begin, options, lambda *_: None)
    assert made.channels == ("a", "b")


def test_words_become_a_configuration() -> None:
    """Numbers, yes or no, and lists, each as the model has it."""
    found = configured("encoder", ["width=64", "shared=true", "lasting=1", "horizons=[1,4]"])
    assert found == {"width": 64, "shared": True, "lasting": 1.0, "horizons": (1, 4)}
    assert isinstance(found["lasting"], float)
    assert configured("encoder", []) == {}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("depth=3", "has no 'depth'; it can be told width=32"),
        ("window=3", "has no 'window'"),
        ("width", "must be like 32"),
        ("width=wide", "must be like 32"),
        ("width=true", "must be like 32"),
        ("shared=1", "must be like false"),
    ],
)
def test_words_that_mean_nothing_are_refused(word: str, said: str) -> None:
    """With the names that there are, or a value as an example."""
    with pytest.raises(ConfigError, match="--set") as caught:
        configured("encoder", [word])
    assert said in str(caught.value)
