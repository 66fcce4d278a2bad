"""Every array is made once, kept whole or not at all, and found again by its source's content."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

from genrescope.datasets.track import Track
from genrescope.errors import GenrescopeError, InputError
from genrescope.representations import make_representation, picture
from genrescope.representations.mel_from_image import MelFromImage
from genrescope.representations.representation import Array
from genrescope.representations.store import Store
from genrescope.representations.transform import PLAIN, AudioTransform, get_transforms

SAMPLING_RATE = 22050

Samples = NDArray[np.float32]
MakeMusic = Callable[..., Samples]


@pytest.fixture
def tracks(tmp_path: Path, music: MakeMusic) -> list[Track]:
    return make_tracks(tmp_path / "music", music, 3)


def make_tracks(folder: Path, music: MakeMusic, count: int) -> list[Track]:
    folder.mkdir()
    made = []
    for number in range(count):
        path = folder / f"{number}.wav"
        soundfile.write(path, music(0.3, seed=number), SAMPLING_RATE)
        made.append(Track(f"t{number}", "pop", audio=path))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


MEL = make_representation("mel-from-image")


@dataclass(frozen=True)
class Recorded(MelFromImage):
    """Writes down which tracks it is asked to make, in whatever process."""

    log: str = ""

    def of_track(
        self, track: Track, transform: AudioTransform = PLAIN, *, allow_damaged: bool = False
    ) -> NDArray[np.float32]:
        with Path(self.log).open("a", encoding="utf-8") as file:
            file.write(f"{track.id}\n")
        return super().of_track(track, transform, allow_damaged=allow_damaged)


class Counting:
    """Counts what a representation is asked to make."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.mel = Recorded(log=str(log))

    def take(self) -> list[str]:
        made = sorted(self._log.read_text().split()) if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return made


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "made.txt")


def stored(store: Store, pattern: str = "*") -> dict[str, bytes]:
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for path in sorted(store.root.rglob(pattern))
        if path.is_file()
    }


def test_arrays_are_those_of_the_representation(store: Store, tracks: list[Track]) -> None:
    found = store.collect(MEL, tracks)
    assert found.ids == ("t0", "t1", "t2")
    assert found.sources == {"audio": 3}
    assert found.problems == ()
    assert found.packed.dtype == np.uint8
    wanted = np.stack([MEL.of_track(track) for track in tracks])
    np.testing.assert_array_equal(MEL.unpack(found.packed), wanted)


def test_the_order_is_that_of_the_tracks_given(store: Store, tracks: list[Track]) -> None:
    forth, back = store.collect(MEL, tracks), store.collect(MEL, tracks[::-1])
    assert back.ids == forth.ids[::-1]
    np.testing.assert_array_equal(back.packed, forth.packed[::-1])


def test_each_is_made_once(store: Store, tracks: list[Track], counting: Counting) -> None:
    first = store.collect(counting.mel, tracks)
    assert counting.take() == ["t0", "t1", "t2"]
    again = Store(store.root).collect(counting.mel, tracks)
    assert counting.take() == []
    np.testing.assert_array_equal(again.packed, first.packed)
    assert again.checksum == first.checksum


def test_a_renamed_file_is_found_again(
    store: Store, tracks: list[Track], counting: Counting
) -> None:
    store.collect(counting.mel, tracks)
    counting.take()
    moved = tracks[0].audio.rename(tracks[0].audio.with_name("other name.wav"))
    found = store.collect(counting.mel, [replace(tracks[0], id="new", audio=moved), *tracks[1:]])
    assert found.ids == ("new", "t1", "t2")
    assert counting.take() == []


def test_a_changed_file_is_made_anew(
    store: Store, tracks: list[Track], counting: Counting, music: MakeMusic
) -> None:
    before = store.collect(counting.mel, tracks)
    counting.take()
    soundfile.write(tracks[1].audio, music(0.3, seed=99), SAMPLING_RATE)
    after = store.collect(counting.mel, tracks)
    assert counting.take() == ["t1"]
    assert (after.packed[1] != before.packed[1]).any()
    np.testing.assert_array_equal(after.packed[[0, 2]], before.packed[[0, 2]])
    assert after.checksum != before.checksum


@pytest.mark.parametrize("damage", ["cut off", "empty", "garbage", "text"])
def test_a_damaged_array_is_made_again(
    store: Store, tracks: list[Track], counting: Counting, damage: str
) -> None:
    before = store.collect(counting.mel, tracks)
    counting.take()
    whole = stored(store)
    victim = store.root / next(iter(whole))
    victim.write_bytes(
        {
            "cut off": victim.read_bytes()[:200],
            "empty": b"",
            "garbage": bytes(range(256)) * 9,
            "text": b"no array",
        }[damage]
    )
    after = store.collect(counting.mel, tracks)
    assert len(counting.take()) == 1
    np.testing.assert_array_equal(after.packed, before.packed)
    assert stored(store) == whole


def test_one_bad_clip_is_a_problem_and_the_rest_goes_on(store: Store, tracks: list[Track]) -> None:
    tracks[0].audio.write_text("no music")
    tracks[2].audio.unlink()
    found = store.collect(MEL, tracks)
    assert found.ids == ("t1",)
    assert len(found.packed) == 1
    assert {problem.path for problem in found.problems} == {tracks[0].audio, tracks[2].audio}
    assert all(problem.cause and problem.remedy for problem in found.problems)


def test_a_clip_that_was_mended_is_made(
    store: Store, tracks: list[Track], music: MakeMusic
) -> None:
    tracks[0].audio.write_text("no music")
    assert store.collect(MEL, tracks).ids == ("t1", "t2")
    soundfile.write(tracks[0].audio, music(0.3), SAMPLING_RATE)
    found = store.collect(MEL, tracks)
    assert (found.ids, found.problems) == (("t0", "t1", "t2"), ())


def test_what_was_interrupted_goes_on_where_it_was(
    store: Store, tmp_path: Path, music: MakeMusic, counting: Counting
) -> None:
    tracks = make_tracks(tmp_path / "eight", music, 8)

    def stop(done: int, _: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.collect(counting.mel, tracks, workers=1, progress=stop)
    before = stored(store, "*.npy")
    assert 1 <= len(before) < 8  # it stopped at once, not when all had been made
    assert 0 <= len(counting.take()) - len(before) <= 1  # one may have been in the making
    assert len(store.collect(counting.mel, tracks, workers=1).ids) == 8
    assert len(counting.take()) == 8 - len(before)


class OnAFullDisk(MelFromImage):
    """Leaves no room for what it makes in the process that it is made in."""

    def pack(self, array: NDArray[np.float32]) -> Array:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.getrlimit(1)[1]))
        return super().pack(array)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_an_array_is_written_whole_or_not_at_all(store: Store, tracks: list[Track]) -> None:
    with pytest.raises(GenrescopeError, match=r"(?s)the store cannot be written.*--cache-dir"):
        # One worker: another one would be killed, which may leave a part of a file.
        store.collect(OnAFullDisk(), tracks, workers=1)
    assert stored(store) == {}
    assert len(store.collect(MEL, tracks).ids) == 3


@pytest.mark.slow
def test_one_worker_and_two_write_the_same_bytes(tmp_path: Path, music: MakeMusic) -> None:
    tracks = make_tracks(tmp_path / "many", music, 9)  # enough to be worth processes
    tracks[4].audio.write_text("no music")
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    seen: list[tuple[int, int]] = []
    alone = one.collect(MEL, tracks, workers=1)
    together = two.collect(MEL, tracks, workers=2, progress=lambda *done: seen.append(done))
    assert stored(one) == stored(two)
    assert len(stored(one)) == 8
    np.testing.assert_array_equal(alone.packed, together.packed)
    assert alone.checksum == together.checksum
    # Errors come whole from another process.
    assert list(map(str, together.problems)) == list(map(str, alone.problems))
    assert together.problems[0].path == tracks[4].audio
    assert seen == [(done, 9) for done in range(1, 10)]


def test_the_checksum_depends_on_contents_and_ids_alone(
    store: Store, tracks: list[Track], tmp_path: Path, music: MakeMusic
) -> None:
    def checksum(tracks: Sequence[Track]) -> str:
        return store.collect(MEL, tracks).checksum

    first = checksum(tracks)
    assert len(first) == 16
    assert int(first, 16) > 0
    assert checksum(make_tracks(tmp_path / "elsewhere", music, 3)) == first
    assert checksum(tracks[:2]) != first
    assert checksum([replace(tracks[0], id="x"), *tracks[1:]]) != first
    assert checksum([replace(tracks[0], audio=tracks[1].audio), *tracks[1:]]) != first


def test_other_parameters_and_versions_are_kept_apart(
    store: Store, tracks: list[Track], monkeypatch: pytest.MonkeyPatch
) -> None:
    def folders() -> set[str]:
        return {path.name for path in store.root.iterdir()}

    short = make_representation("waveform", {"seconds": 0.1})
    store.collect(short, tracks)
    first = folders()
    assert len(first) == 1
    assert next(iter(first)).startswith("waveform-")
    longer = make_representation("waveform", {"seconds": 0.2})
    assert store.collect(longer, tracks).packed.shape == (3, 3200)
    second = folders() - first
    assert len(second) == 1
    monkeypatch.setattr(type(short), "version", short.version + 1)
    store.collect(short, tracks)
    assert len(folders() - first - second) == 1
    assert len(stored(store)) == 9


@pytest.mark.parametrize("blocked", ["store", "store/inside"])
def test_a_folder_that_cannot_be_written_is_reported(
    tmp_path: Path, tracks: list[Track], blocked: str
) -> None:
    (tmp_path / "store").write_text("a file stands in the way")
    with pytest.raises(InputError, match=r"the store cannot be written .*--cache-dir") as caught:
        Store(tmp_path / blocked).collect(MEL, tracks)
    assert caught.value.path == tmp_path / blocked


def test_tracks_without_a_fit_source_are_left_out_silently(
    store: Store, tracks: list[Track]
) -> None:
    unfit = [Track("none", "pop"), replace(tracks[0], id="part", audio_variant="excerpt")]
    found = store.collect(MEL, [*unfit, tracks[1]])
    assert (found.ids, found.problems) == (("t1",), ())


@pytest.mark.parametrize("name", ["mel-from-image", "descriptors", "waveform"])
def test_nothing_gives_an_empty_collection_of_the_right_kind(
    store: Store, tracks: list[Track], name: str
) -> None:
    representation = make_representation(name)
    found = store.collect(representation, [])
    assert found.ids == ()
    assert found.packed.shape == (0, *representation.shape)
    row = np.zeros(representation.shape, dtype=np.float32)
    assert found.packed.dtype == representation.pack(row).dtype


def test_transformed_versions_follow_the_plain_one(store: Store, tracks: list[Track]) -> None:
    loud, fast = get_transforms(["loud", "fast"])
    mfcc = make_representation("mfcc", {"seconds": 0.3})
    plain = store.collect(mfcc, tracks)
    first = stored(store)
    seen: list[tuple[int, int]] = []
    both = store.collect(
        mfcc, tracks, transforms=[loud, fast], progress=lambda *done: seen.append(done)
    )
    assert seen[-1] == (6, 6)
    assert first.items() <= stored(store).items()
    assert len(stored(store)) == 9
    assert both.ids == plain.ids
    np.testing.assert_array_equal(both.packed[:3], plain.packed)
    for i, track in enumerate(tracks):
        assert track.audio is not None
        np.testing.assert_array_equal(both.packed[3 + i], mfcc.of_file(track.audio, loud))
        np.testing.assert_array_equal(both.packed[6 + i], mfcc.of_file(track.audio, fast))


def test_a_bad_clip_is_one_problem_however_many_its_versions(
    store: Store, tracks: list[Track]
) -> None:
    assert tracks[1].audio is not None
    tracks[1].audio.write_bytes(b"no music")
    found = store.collect(MEL, tracks, transforms=get_transforms(["loud", "fast"]))
    assert [problem.path for problem in found.problems] == [tracks[1].audio]
    assert found.ids == ("t0", "t2")
    assert len(found.packed) == 6


def test_only_audio_can_be_augmented(store: Store) -> None:
    track = Track("t", "pop", descriptors=(0.0,) * 57)
    with pytest.raises(GenrescopeError, match="only audio can be augmented"):
        store.collect(
            make_representation("descriptors"), [track], transforms=get_transforms(["loud"])
        )


def test_pictures_and_published_rows_are_collected_too(
    store: Store, tracks: list[Track], tmp_path: Path, music: MakeMusic
) -> None:
    png = tmp_path / "a.png"
    pixels = picture.draw(music(1.0), SAMPLING_RATE)
    Image.fromarray(pixels).save(png)
    found = store.collect(MEL, [replace(tracks[0], image=png), tracks[1]])
    assert found.sources == {"audio": 1, "image": 1}
    np.testing.assert_array_equal(found.packed[0], picture.grid_of_picture(pixels))

    rows = [Track(f"r{i}", "pop", descriptors=tuple([float(i)] * 57)) for i in range(2)]
    found = store.collect(make_representation("descriptors"), rows)
    assert found.sources == {"table": 2}
    np.testing.assert_array_equal(found.packed, np.repeat([[0.0], [1.0]], 57, axis=1))
    other = [rows[0], replace(rows[1], descriptors=tuple([2.0] * 57))]
    assert store.collect(make_representation("descriptors"), other).checksum != found.checksum


def test_progress_is_reported_for_what_is_made(store: Store, tracks: list[Track]) -> None:
    seen: list[tuple[int, int]] = []
    store.collect(MEL, tracks[:1])
    store.collect(MEL, tracks, progress=lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 2)]


def test_the_default_folder_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    assert Store().root == Path("/somewhere/cache/genrescope/store")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, though nobody has asked how


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_end_with_a_parent_that_is_killed(music: MakeMusic, tmp_path: Path) -> None:
    for number in range(40):
        soundfile.write(tmp_path / f"{number}.wav", music(20.0, seed=number), 22050)
    code = (
        "import multiprocessing, pathlib, sys\n"
        "from genrescope.representations import make_representation\n"
        "from genrescope.representations.store import Store\n"
        "from genrescope.datasets.track import Track\n"
        "def told(done, total):\n"
        "    print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "if __name__ == '__main__':\n"
        "    here = pathlib.Path(sys.argv[1])\n"
        "    tracks = [Track(p.stem, 'pop', audio=p) for p in sorted(here.glob('*.wav'))]\n"
        "    Store(here / 'store').collect(\n"
        "        make_representation('mfcc'), tracks, workers=2, progress=told)\n"
    )
    script = tmp_path / "collect.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))


def cut_off(track: Track, share: float, music: MakeMusic) -> None:
    """Make a track of 3 s of which a share is there."""
    assert track.audio is not None
    soundfile.write(track.audio, music(3.0), SAMPLING_RATE)
    content = track.audio.read_bytes()
    track.audio.write_bytes(content[: round(share * len(content))])


def test_a_damaged_clip_is_named_and_left_out(
    store: Store, tracks: list[Track], music: MakeMusic
) -> None:
    cut_off(tracks[1], 0.7, music)
    found = store.collect(MEL, tracks)
    assert found.ids == ("t0", "t2")
    (problem,) = found.problems
    assert problem.path == tracks[1].audio
    assert "s of 3.0 s could not be decoded" in problem.cause
    assert "--allow-damaged" in problem.remedy
    assert len(stored(store)) == 2


def test_a_damaged_clip_is_used_where_that_is_allowed_and_only_there(
    store: Store, tracks: list[Track], music: MakeMusic
) -> None:
    cut_off(tracks[0], 0.3, music)
    cut_off(tracks[1], 0.7, music)
    lenient = Store(store.root, allow_damaged=True)
    for _ in range(2):  # made, then found
        found = lenient.collect(MEL, tracks)
        assert found.ids == ("t1", "t2")
        assert [problem.path for problem in found.problems] == [tracks[0].audio]
        wanted = MEL.of_file(tracks[1].audio, allow_damaged=True)
        np.testing.assert_array_equal(MEL.unpack(found.packed[0]), wanted)
    strict = store.collect(MEL, tracks)
    assert strict.ids == ("t2",)
    assert {problem.path for problem in strict.problems} == {t.audio for t in tracks[:2]}
    assert strict.checksum != found.checksum


class Fatal(MelFromImage):
    """Kills the process that makes the array of a quiet clip, as a decoder might."""

    def compute(self, waveform: Samples, sampling_rate: int) -> NDArray[np.float32]:
        if np.abs(waveform).max() < 0.01:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().compute(waveform, sampling_rate)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_crashes_its_decoder_costs_itself(
    store: Store, tmp_path: Path, music: MakeMusic, workers: int
) -> None:
    tracks = make_tracks(tmp_path / "music", music, 6)
    for track in tracks[1:3]:
        soundfile.write(track.audio, 0.001 * music(0.3), SAMPLING_RATE)
    found = store.collect(Fatal(), tracks, workers=workers)
    assert found.ids == ("t0", "t3", "t4", "t5")
    assert [problem.path for problem in found.problems] == [track.audio for track in tracks[1:3]]
    assert {problem.cause for problem in found.problems} == {
        "its decoder crashed, or there was no memory left"
    }
