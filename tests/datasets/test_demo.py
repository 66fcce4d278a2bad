"""The demo: the same each time, artist-disjoint, resumable, neither easy nor hopeless."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from genrescope.datasets import demo
from genrescope.datasets.track import Dataset
from genrescope.errors import InputError

SHORT = {"tracks_per_style": 5, "seconds": 0.4}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return demo.make(folder, **SHORT)


@pytest.mark.parametrize("style", demo.STYLES)
def test_clip_is_sound(style: str) -> None:
    wave = demo.render(style, 1, 3, seconds=2.0)
    assert wave.dtype == np.float32
    assert wave.shape == (44100,)
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() <= 1
    assert 0.005 < np.sqrt(np.mean(wave**2)) < 0.7
    assert abs(wave.mean()) < 0.02


@pytest.mark.parametrize("style", demo.STYLES)
def test_clip_is_music_and_not_noise(style: str) -> None:
    wave = demo.render(style, 0, 0, seconds=3.0)
    power = np.abs(np.fft.rfft(wave)) ** 2
    strongest = np.sort(power)[::-1]
    assert strongest[: len(power) // 50].sum() > 0.5 * power.sum()


def test_same_arguments_same_samples_and_others_differ() -> None:
    clip = demo.render("march", 1, 2, seconds=1.0)
    np.testing.assert_array_equal(clip, demo.render("march", 1, 2, seconds=1.0))
    for other in (
        demo.render("march", 0, 2, seconds=1.0),
        demo.render("march", 1, 3, seconds=1.0),
        demo.render("waltz", 1, 2, seconds=1.0),
        demo.render("march", 1, 2, seconds=1.0, seed=1),
    ):
        assert abs(np.corrcoef(clip, other)[0, 1]) < 0.9


def test_artists_keep_their_habits() -> None:
    """Tracks of one artist lie closer together in tone than tracks of different artists."""
    players = np.repeat(range(5), 4)
    tone = [_features(demo.render("pulse", a, n))[:24] for n, a in enumerate(players)]
    apart = np.linalg.norm(np.array(tone)[:, None] - tone, axis=-1)
    same = (players[:, None] == players) & ~np.eye(20, dtype=bool)
    other = players[:, None] != players
    assert apart[other].mean() > 1.25 * apart[same].mean()


@pytest.mark.parametrize(
    ("seconds", "sampling_rate"), [(0.001, 22050), (0.5, 8000), (0.3, 44100), (3, 1)]
)
def test_any_length_and_rate(seconds: float, sampling_rate: int) -> None:
    for style in demo.STYLES:
        wave = demo.render(style, 0, 0, seconds=seconds, sampling_rate=sampling_rate)
        assert wave.shape == (round(seconds * sampling_rate),)
        assert np.isfinite(wave).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"style": "polka"}, "unknown demo style 'polka'.*waltz"),
        ({"artist": -1}, "must not be negative"),
        ({"number": -1}, "must not be negative"),
        ({"seed": -1}, "must not be negative"),
        ({"seconds": 0.0}, "seconds must be a positive"),
        ({"seconds": float("nan")}, "seconds must be a positive"),
        ({"seconds": float("inf")}, "seconds must be a positive"),
        ({"sampling_rate": 0}, "rate must be a positive"),
        ({"seconds": 1e-9}, "less than one sample"),
    ],
)
def test_render_refuses_nonsense(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        demo.render(**{"style": "waltz", "artist": 0, "number": 0} | arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"tracks_per_style": 2}, {"seed": -1}, {"seconds": -1.0}])
def test_make_refuses_nonsense_before_it_writes(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        demo.make(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_dataset_and_its_files(folder: Path, dataset: Dataset) -> None:
    assert dataset.name == "demo"
    assert dataset.counts == dict.fromkeys(sorted(demo.STYLES), 5)
    assert len(dataset.genres) == 10
    ids = [track.id for track in dataset.tracks]
    assert ids == sorted(ids)
    assert any("synthetic" in note for note in dataset.notes)
    track = dataset.tracks[7]
    assert track.id == "chorale.00002"
    assert track.group == "chorale-artist-2"
    assert track.audio == folder / "chorale" / "chorale.00002.flac"
    for track in dataset.tracks:
        info = soundfile.info(track.audio)
        assert (info.samplerate, info.frames, info.channels) == (22050, 8820, 1)
        assert info.subtype == "PCM_16"
    assert len(list(folder.rglob("*.*"))) == 51, "50 clips, demo.json and nothing else"


def test_file_holds_the_rendered_clip(dataset: Dataset) -> None:
    track = dataset.tracks[-1]
    assert track.audio is not None
    number = int(track.id.split(".")[1])
    wave = demo.render(track.genre, number % 5, number, seconds=0.4)
    np.testing.assert_allclose(soundfile.read(track.audio)[0], wave, atol=1 / 32767)


@pytest.mark.parametrize("count", [3, 5, 7])
def test_lists_are_artist_disjoint_and_cover_every_track_once(tmp_path: Path, count: int) -> None:
    dataset = demo.make(tmp_path, tracks_per_style=count, seconds=0.05)
    lists = dataset.lists["filtered"]
    listed = Counter(lists.train + lists.valid + lists.test)
    assert listed == Counter(track.id for track in dataset.tracks)
    by_id = {track.id: track for track in dataset.tracks}
    groups = []
    for side in (lists.train, lists.valid, lists.test):
        assert {by_id[name].genre for name in side} == set(demo.STYLES)
        groups.append({by_id[name].group for name in side})
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_resumes_after_lost_and_damaged_files(tmp_path: Path) -> None:
    dataset = demo.make(tmp_path, **SHORT)
    before = contents(tmp_path)
    lost, cut, headed, text, kept = (track.audio for track in dataset.tracks[:50:10])
    assert lost and cut and headed and text and kept  # noqa: PT018
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-500])
    headed.write_bytes(headed.read_bytes()[:100])
    text.write_text("not audio")
    stamp = kept.stat().st_mtime_ns
    assert demo.make(tmp_path, **SHORT) == dataset
    assert contents(tmp_path) == before
    assert kept.stat().st_mtime_ns == stamp


def test_goes_on_after_an_interruption(tmp_path: Path, dataset: Dataset, folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise BrokenPipeError("the reader went away")

    with pytest.raises(BrokenPipeError):  # the caller's own error, not dressed up as the folder's
        demo.make(tmp_path, **SHORT, progress=stop)
    assert 5 <= len(list(tmp_path.rglob("*.flac"))) < 50
    steps: list[tuple[int, int]] = []
    demo.make(tmp_path, **SHORT, progress=lambda *step: steps.append(step))
    assert steps == [(done, 50) for done in range(1, 51)]
    assert contents(tmp_path) == contents(folder)


@pytest.mark.parametrize("change", ["seed", "seconds", "version", "note"])
def test_other_settings_render_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    arguments = {"tracks_per_style": 3, "seconds": 0.1, "seed": 0}
    demo.make(tmp_path, **arguments)  # type: ignore[arg-type]
    clip = tmp_path / "drone" / "drone.00001.flac"
    soundfile.write(clip, np.zeros(2205), 22050)  # whole, so only the settings state it is stale
    surplus = tmp_path / "drone" / "drone.00004.flac"
    surplus.write_bytes(clip.read_bytes())
    demo.make(tmp_path, **arguments)  # type: ignore[arg-type]
    assert not soundfile.read(clip)[0].any()
    if change == "version":
        monkeypatch.setattr(demo, "VERSION", demo.VERSION + 1)
    elif change == "note":
        (tmp_path / "demo.json").write_text('{"version": ')
    else:
        arguments |= {"seed": 1} if change == "seed" else {"seconds": 0.2}
    demo.make(tmp_path, **arguments)  # type: ignore[arg-type]
    wave = demo.render("drone", 1, 1, seconds=arguments["seconds"], seed=int(arguments["seed"]))
    np.testing.assert_allclose(soundfile.read(clip)[0], wave, atol=1 / 32767)
    assert not surplus.exists(), "a clip of the old settings must not be taken for a new one later"
    assert json.loads((tmp_path / "demo.json").read_text())["version"] == demo.VERSION


def test_more_tracks_keep_those_there(tmp_path: Path) -> None:
    demo.make(tmp_path, tracks_per_style=3, seconds=0.1)
    before = contents(tmp_path)
    dataset = demo.make(tmp_path, tracks_per_style=4, seconds=0.1)
    assert len(dataset.tracks) == 40
    assert before.items() < contents(tmp_path).items()


def test_two_at_once(tmp_path: Path, dataset: Dataset, folder: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(demo.make, tmp_path, **SHORT) for _ in range(2)]:
            assert future.result().checksum == dataset.checksum
    assert contents(tmp_path) == contents(folder)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"cannot be written.*Choose a folder"):
        demo.make(tmp_path / "taken", **SHORT)


def test_clip_that_cannot_be_written(tmp_path: Path) -> None:
    demo.make(tmp_path, tracks_per_style=3, seconds=0.05)
    clip = tmp_path / "waltz" / "waltz.00002.flac"
    clip.unlink()
    clip.mkdir()
    with pytest.raises(InputError, match=r"waltz\.00002\.flac.*cannot be written"):
        demo.make(tmp_path, tracks_per_style=3, seconds=0.05)
    assert not list(tmp_path.rglob("*.part"))


def test_full_disk_leaves_no_half_written_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.make(tmp_path, tracks_per_style=3, seconds=0.05)
    before = contents(tmp_path)
    write = Path.write_bytes

    def half(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(InputError, match="No space left on device"):
        demo.make(tmp_path, tracks_per_style=4, seconds=0.05)
    assert contents(tmp_path) == before


def _features(wave: np.ndarray) -> np.ndarray:
    """Mean and spread of 24 log bands, and the rhythm of the whole's onsets: float64 (78,)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 1024)[::512] * np.hanning(1024)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.unique(np.geomspace(1, 513, 40).astype(int))[:25]
    bands = np.log(np.add.reduceat(power, edges, axis=1)[:, :24] + 1e-6)
    onsets = np.diff(bands, axis=0).clip(0).sum(axis=1)
    onsets = (onsets - onsets.mean()) / (onsets.std() + 1e-9)
    rhythm = [np.mean(onsets[lag:] * onsets[:-lag]) for lag in range(5, 65, 2)]
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0), rhythm])


@pytest.mark.slow
def test_neither_easy_nor_hopeless_and_leaking_as_real_music_does() -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    clips = [(style, number) for style in demo.STYLES for number in range(20)]
    x = np.array([_features(demo.render(style, n % 5, n)) for style, n in clips])
    y = np.array([style for style, _ in clips])
    artist = np.array([n % 5 for _, n in clips])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    leaky = np.mean(cross_val_predict(model, x, y, cv=folds) == y)
    disjoint = cross_val_predict(model, x, y, cv=LeaveOneGroupOut(), groups=artist)
    leakage_free = np.mean(disjoint == y)
    assert 0.7 < leaky < 0.97
    assert 0.45 < leakage_free < leaky - 0.05
    for style in demo.STYLES:
        assert np.mean(disjoint[y == style] == style) > 0.1
