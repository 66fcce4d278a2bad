"""Layers that show a network a part of a track at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genrescope.models.cnn import ResNet
from genrescope.models.windows import Average, Masks, SegmentNetwork, Windows


class Reported(nn.Module):
    """Logits that are what it sees, averaged over all but the first genres' bands."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, arrays: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(arrays.shape))
        return arrays.mean(dim=-1)[..., :3] * 5


def mean_probabilities(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([part.softmax(dim=1) for part in parts]).mean(dim=0)


def test_windows_average_probabilities_over_even_places() -> None:
    arrays = torch.rand(4, 5, 20)
    windows = Windows(Reported(), length=8, count=3).eval()
    parts = [arrays[..., s : s + 8].mean(dim=-1)[:, :3] * 5 for s in (0, 6, 12)]
    torch.testing.assert_close(windows(arrays).exp(), mean_probabilities(parts))


def test_windows_in_training_are_random_and_whole() -> None:
    torch.manual_seed(0)
    shown = Reported()
    windows = Windows(shown, length=8, count=3).train()
    ramp = torch.arange(20.0).expand(64, 5, 20)
    starts = windows(ramp)[:, 0] / 5 - 3.5
    assert shown.seen == [(64, 5, 8)]
    assert set(starts.round().int().tolist()) == set(range(13))


def test_a_window_as_long_as_the_track_is_the_track() -> None:
    arrays = torch.rand(2, 5, 8)
    windows = Windows(Reported(), length=8, count=5).eval()
    torch.testing.assert_close(windows(arrays), Reported()(arrays))


def test_segments_average_over_all_and_train_on_one() -> None:
    torch.manual_seed(0)
    shown = Reported()
    arrays = torch.rand(6, 4, 5, 8)
    segments = SegmentNetwork(shown).eval()
    parts = [arrays[:, i].mean(dim=-1)[:, :3] * 5 for i in range(4)]
    torch.testing.assert_close(segments(arrays).exp(), mean_probabilities(parts))
    trained = segments.train()(arrays)
    assert shown.seen[-1] == (6, 5, 8)
    for track, row in enumerate(trained):
        assert any(torch.allclose(row, part[track]) for part in parts)


def test_average_of_networks() -> None:
    networks = [nn.Linear(4, 3), nn.Linear(4, 3)]
    rows = torch.rand(7, 4)
    found = Average(networks)(rows).exp()
    torch.testing.assert_close(found, mean_probabilities([n(rows) for n in networks]))


@given(
    time=st.tuples(st.integers(0, 3), st.integers(0, 12)),
    frequency=st.tuples(st.integers(0, 3), st.integers(0, 12)),
    seed=st.integers(0, 99),
)
def test_masks_hide_no_more_than_they_may(
    time: tuple[int, int], frequency: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    arrays = torch.rand(3, 10, 16) + 1
    masked = Masks(time, frequency).train()(arrays)
    changed = (masked != arrays).numpy()
    columns, bands = changed.all(axis=1).sum(axis=1), changed.all(axis=2).sum(axis=1)
    # A hidden column hides a part of every band, and the other way round.
    assert (columns <= (16 if bands.max() == 10 else time[0] * time[1])).all()
    assert (bands <= (10 if columns.max() == 16 else frequency[0] * frequency[1])).all()
    for i in range(3):
        outside = changed[i] & ~changed[i].all(axis=0) & ~changed[i].all(axis=1)[:, None]
        assert not outside.any()
    assert torch.equal(Masks(time, frequency).eval()(arrays), arrays)


def test_masks_do_hide_and_fill_with_the_mean() -> None:
    torch.manual_seed(0)
    arrays = torch.rand(200, 10, 16)
    masked = Masks((1, 8), (0, 0)).train()(arrays)
    hidden = (masked != arrays).all(dim=1).sum(dim=1)
    assert 2.5 < float(hidden.float().mean()) < 5
    place = int(hidden.argmax())
    column = (masked != arrays)[place].all(dim=0).nonzero()[0, 0]
    filled = masked[place, :, column]
    torch.testing.assert_close(filled, arrays[place].mean().expand(10))


@pytest.mark.parametrize("columns", [32, 128, 336])
def test_resnet_takes_any_length(columns: int) -> None:
    network = ResNet((128, columns), genres=4, width=4).eval()
    logits = network(torch.rand(2, 128, columns))
    assert logits.shape == (2, 4)
    assert torch.isfinite(logits).all()


def test_resnet_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match="spectrograms"):
        ResNet((3, 128, 128), genres=4)
    with pytest.raises(ValueError, match="8 × 128"):
        ResNet((8, 128), genres=4)


def test_resnet_distinguishes_bands() -> None:
    # The same pattern in other bands is another sound, for the first layer scales each band.
    torch.manual_seed(0)
    network = ResNet((32, 64), genres=3, width=4).eval()
    sound = torch.zeros(1, 32, 64)
    sound[:, 4:8] = 1
    moved = sound.roll(16, dims=1)
    assert np.abs((network(sound) - network(moved)).detach().numpy()).max() > 1e-4
