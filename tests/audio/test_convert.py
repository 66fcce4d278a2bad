"""Conversion to MP3: what comes out, what is kept, and files that cannot be decoded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import soundfile

from genrescope.audio import convert
from genrescope.audio.convert import Mp3Converter
from genrescope.errors import InputError


@pytest.fixture
def converter(tmp_path: Path) -> Iterator[Mp3Converter]:
    folder = tmp_path / "results"
    folder.mkdir()
    found = Mp3Converter(folder)
    yield found
    found.close()


def results(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "results").iterdir())


def test_a_file_is_converted_once(
    converter: Mp3Converter, tone: Callable[..., Path], tmp_path: Path
) -> None:
    path = tone(tmp_path / "a.wav", seconds=3.0)
    result = converter.convert(path)
    info = soundfile.info(result)
    assert (info.format, info.samplerate, info.channels) == ("MP3", 44_100, 1)
    assert info.duration == pytest.approx(3.0, abs=0.1)
    assert converter.convert(path) == result
    tone(path, seconds=1.0)
    again = converter.convert(path)
    assert soundfile.info(again).duration == pytest.approx(1.0, abs=0.1)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.wav: it cannot be read"):
        converter.convert(path)


def test_only_the_newest_are_kept(
    converter: Mp3Converter,
    tone: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convert, "_KEPT", 2)
    first, second, third = (tone(tmp_path / f"{name}.wav", seconds=0.5) for name in "abc")
    oldest = [converter.convert(first), converter.convert(second)][0]
    converter.convert(first)  # used again, so the second goes
    newest = converter.convert(third)
    assert results(tmp_path) == [oldest, newest]


def test_what_is_no_audio_is_named_and_leaves_nothing(
    converter: Mp3Converter, tmp_path: Path
) -> None:
    path = tmp_path / "letter.mp3"
    path.write_text("Dear all, " * 1000, encoding="utf-8")
    with pytest.raises(InputError, match=r"letter\.mp3") as error:
        converter.convert(path)
    assert str(tmp_path) not in str(error.value)
    assert results(tmp_path) == []


def test_a_crash_of_the_decoder_is_that_files_error(
    converter: Mp3Converter,
    tone: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tone(tmp_path / "a.wav", seconds=0.5)
    with monkeypatch.context() as patched:
        patched.setattr(convert, "_convert", crash)
        with pytest.raises(InputError, match="it cannot be decoded"):
            converter.convert(path)
    assert results(tmp_path) == []
    assert soundfile.info(converter.convert(path)).frames > 0


def test_a_conversion_can_be_stopped(
    converter: Mp3Converter,
    tone: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tone(tmp_path / "a.wav", seconds=0.5)
    with monkeypatch.context() as patched, ThreadPoolExecutor() as pool:
        patched.setattr(convert, "_convert", write_slowly)
        running = pool.submit(converter.convert, path)
        while not results(tmp_path):
            time.sleep(0.05)
        converter.stop()
        with pytest.raises(InputError):
            running.result(30)
    assert results(tmp_path) == []
    assert soundfile.info(converter.convert(path)).frames > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no disk that is always full")
def test_a_full_disk_is_no_fault_of_the_file(
    converter: Mp3Converter, tone: Callable[..., Path], tmp_path: Path
) -> None:
    path = tone(tmp_path / "a.wav", seconds=3.0)
    (tmp_path / "results" / "1.mp3").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        converter.convert(path)
    assert results(tmp_path) == []


def write_slowly(_: None, __: Path, result: Path) -> None:
    result.touch()
    time.sleep(60)


def crash(_: None, path: Path, result: Path) -> None:
    result.write_bytes(path.read_bytes()[:100])
    os._exit(1)
