"""TranAD: its two phases with known weights, who gets which gradient, and that nothing sees what it has to tell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stream_detector.models.tranad import LEAST_SPAN, TranAd, TranAdConfig, TranAdPaper, TranAdPaperConfig


def model(channels: int = 2, **more: object) -> TranAd:
    """Fresh weights, always the same, fitted to the range of [-2, 2]."""
    torch.manual_seed(0)
    made = TranAd(TranAdConfig(16, channels, context=6, width=8, heads=2, feedforward=8, **more))  # type: ignore[arg-type]
    made.prepare(torch.tensor([-2.0, 2.0])[None, :, None].expand(1, 2, channels))
    made.train(False)
    return made


class Last(nn.Module):
    """In place of a decoder: says `value` of every step, plus `share` of what the encoder knew last of each."""

    def __init__(self, value: float, share: float) -> None:
        super().__init__()
        self.value, self.share = value, share

    def forward(self, x: Tensor, memory: Tensor, last: bool) -> Tensor:
        """As a decoder does."""
        said = torch.full_like(x, self.value) + self.share * memory
        return said[:, -1:] if last else said


def test_both_phases_by_hand() -> None:
    """Phase 1 sees a focus of zeros, phase 2 the squared errors of phase 1, one step later; the score is their mean."""
    made = model(channels=1, recent=1)
    # Nothing but the focus reaches the encoder's memory, and the head passes the first number of a step on.
    made.embed = nn.Identity()
    made.position = torch.zeros(5, 2)
    made.encoder = nn.Identity()
    made.head = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(made.head.weight)
    made.head.weight.data[0, 1] = 1.0
    made.first, made.second = Last(0.25, 1.0), Last(0.5, 1.0)
    windows = torch.tensor([0.1, 0.2, 0.4, 0.3, 0.9, 0.7])[None, :, None]
    first, again = made.forward(windows)
    asked = windows[0, 1:, 0]
    torch.testing.assert_close(first[0, :, 0], torch.full((5,), 0.25))
    focus = torch.cat([torch.zeros(1), (0.25 - asked[:-1]).square()])
    torch.testing.assert_close(again[0, :, 0], 0.5 + focus)
    made.least, made.span = torch.zeros(1), torch.ones(1)
    score = made.score(windows, 1).score[0, 0]
    wanted = ((0.25 - 0.7) ** 2 + (0.5 + (0.25 - 0.9) ** 2 - 0.7) ** 2) / 2
    assert score.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("recent", [2, 5, 16])
def test_a_score_is_the_error_of_the_recent_steps_where_it_is_greatest(recent: int) -> None:
    """Of the four channels one counts; of the context of six steps the first is not reconstructed."""
    made, windows = model(channels=4, recent=recent), torch.randn(3, 16, 4).clamp(-2, 2)
    ranged = made._ranged(windows)
    asked = ranged[:, 1:]
    with torch.inference_mode():
        error = sum((one - asked).square() for one in made.forward(ranged))[:, -recent:].mean(dim=1) / 2  # type: ignore[index]
        found = made.score(windows, 1)
    torch.testing.assert_close(found.score[:, 0], error.amax(dim=1))
    torch.testing.assert_close(found.contribution[:, 0], error)


def test_it_does_not_see_what_it_reconstructs() -> None:
    """The expectation of a step stays when that step changes, in both phases; the published code would copy it."""
    made, windows = model(), torch.randn(4, 16, 2).clamp(-2, 2)
    changed = windows.clone()
    changed[:, -1] += 1.5
    with torch.inference_mode():
        ranged, other = made._ranged(windows), made._ranged(changed)
        for one, two in zip(made._phases(ranged, last=True), made._phases(other, last=True), strict=True):
            torch.testing.assert_close(one[:, -1], two[:, -1])
        assert (made.score(windows, 1).score != made.score(changed, 1).score).all()


def test_the_focus_changes_the_second_phase() -> None:
    """Where the first attempt failed before, the second looks otherwise."""
    made = model()
    windows = torch.zeros(1, 16, 2)
    wrong = windows.clone()
    wrong[:, -2] = 2.0
    with torch.inference_mode():
        _, calm = made._phases(made._ranged(windows), last=True)
        seen = made._ranged(wrong)
        memory = made._encode(seen[:, :-1], torch.zeros_like(seen[:, :-1]))
        without = made._decode(made.second, seen[:, :-1], memory, last=True)
        _, again = made._phases(seen, last=True)
    assert not torch.allclose(again, without)
    assert not torch.allclose(again, calm)


def gradients(made: TranAd, loss: Tensor) -> dict[str, Tensor]:
    """Of all parameters; zeros where there are none."""
    made.zero_grad()
    torch.autograd.backward(loss)
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in made.named_parameters()}


def test_each_decoder_gets_its_own_loss() -> None:
    """That is w E1 + (1 - w) E for the first, w E2 - (1 - w) E for the second, and their sum for what both share."""
    made, windows, epoch = model(contest=True, begun=1), torch.randn(8, 16, 2).clamp(-2, 2), 3
    found = gradients(made, made.loss(windows, epoch))
    ranged, weight = made._ranged(windows), 1 / (epoch + 1)
    seen, asked = ranged[:, :-1], ranged[:, 1:]
    memory = made._encode(seen, torch.zeros_like(seen))
    one, two = ((made._decode(d, seen, memory) - asked).square().mean() for d in (made.first, made.second))
    again = (made.forward(ranged)[1] - asked).square().mean()
    of_first = gradients(made, weight * one + (1 - weight) * again)
    memory = made._encode(seen, torch.zeros_like(seen))
    two = (made._decode(made.second, seen, memory) - asked).square().mean()
    again = (made.forward(ranged)[1] - asked).square().mean()
    of_second = gradients(made, weight * two - (1 - weight) * again)
    for name in found:
        if name.startswith("first."):
            wanted = of_first[name]
        elif name.startswith("second."):
            wanted = of_second[name]
        else:
            wanted = of_first[name] + of_second[name]
        torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: name + text)


def test_the_first_epoch_of_the_paper_teaches_no_second_phase() -> None:
    """With w = 1 the loss is E1 + E2."""
    made, windows = model(contest=True, begun=0), torch.randn(8, 16, 2).clamp(-2, 2)
    ranged = made._ranged(windows)
    seen, asked = ranged[:, :-1], ranged[:, 1:]
    memory = made._encode(seen, torch.zeros_like(seen))
    wanted = sum((made._decode(d, seen, memory) - asked).square().mean() for d in (made.first, made.second))
    torch.testing.assert_close(made.loss(windows, 1), wanted)


def test_several_steps_are_scored_one_at_a_time() -> None:
    """The last three steps of a window as the last steps of three windows."""
    made, windows = model(), torch.randn(5, 16, 2)
    with torch.inference_mode():
        together = made.score(windows, 3)
        for i in range(3):
            alone = made.score(windows[:, : 14 + i], 1)
            torch.testing.assert_close(together.score[:, i], alone.score[:, 0])
            torch.testing.assert_close(together.expected[:, i], alone.expected[:, 0])


def test_values_far_outside_the_training_stay_numbers() -> None:
    """The sigmoid keeps the expectation inside the range, the score grows."""
    made = model()
    with torch.inference_mode():
        near, far = (made.score(torch.full((1, 16, 2), value), 1) for value in (0.0, 20.0))
    assert far.score > near.score
    assert (far.expected.abs() <= 2 + 1e-5).all()


def test_the_published_size() -> None:
    """Twice the channels wide, a head a channel, window 10."""
    made = TranAdPaper(TranAdPaperConfig(100, 3))
    assert made.encoder.attention.heads == 3
    assert made.encoder.attention.query.in_features == 6
    assert (made.config.context, made.config.feedforward, made.config.contest) == (10, 16, True)


def test_few_windows_widen_the_range_and_never_narrow_it() -> None:
    """From [-2, 2], windows between -3 and 1 in one channel, at 0 in the other: [-3, 2] and [-2, 2]."""
    made = model()
    few = torch.zeros(3, 16, 2)
    few[0, 0, 0], few[1, 3, 0] = -3.0, 1.0
    made.widen(few)
    torch.testing.assert_close(made.least, torch.tensor([-3.0, -2.0]))
    torch.testing.assert_close(made.span, torch.tensor([5.0, 4.0]))
    made.prepare(few)
    torch.testing.assert_close(made.span, torch.tensor([4.0, LEAST_SPAN]))
