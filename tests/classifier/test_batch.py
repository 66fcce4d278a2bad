import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from genrescope.classifier import Classifier
from genrescope.classifier.batch import classify_files, find_audio


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.default()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    (folder / "bonus").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("b.wav", "a.flac", "bonus/c.ogg"):
        tone = 0.3 * np.sin(np.arange(22050 * 4) * rng.uniform(0.02, 0.3))
        soundfile.write(folder / name, tone + 0.01 * rng.standard_normal(len(tone)), 22050)
    (folder / "cover.jpg").write_bytes(b"not audio")
    return folder


def names(paths: object) -> list[str]:
    return [path.name for path in paths]


def test_folders_give_their_audio_in_order(album: Path) -> None:
    assert names(find_audio([album], recursive=False)) == ["a.flac", "b.wav"]
    assert names(find_audio([album], recursive=True)) == ["a.flac", "b.wav", "c.ogg"]
    assert names(find_audio([album / "cover.jpg"], recursive=False)) == ["cover.jpg"]


def test_answers_keep_the_order_and_one_bad_file_does_not_end_them(
    album: Path, classifier: Classifier
) -> None:
    (album / "text.mp3").write_text("no music")
    paths = [album / "a.flac", album / "text.mp3", album / "gone.wav", album, album / "b.wav"]
    answers = list(classify_files(classifier, paths, workers=3))
    assert [answer.path for answer in answers] == paths
    assert [answer.error is None for answer in answers] == [True, False, False, False, True]
    assert str(album / "text.mp3") in str(answers[1].error)


def test_what_is_skipped_is_logged(
    album: Path, classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "genrescope")
    shutil.copy(album / "b.wav", album / "without")
    whole = (album / "bonus" / "c.ogg").read_bytes()
    (album / "bonus" / "c.ogg").write_bytes(whole[: len(whole) * 3 // 4])
    (album / "text.mp3").write_text("no music")
    paths = find_audio([str(album)], recursive=True)
    found = {one.path.name: one for one in classify_files(classifier, map(str, paths), workers=1)}
    assert found["b.wav"].prediction is not None
    assert found["c.ogg"].prediction is not None
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert sorted(lines) == sorted(
        [
            ("INFO", f"skipped: {album / 'without'}"),
            *(
                ("WARNING", f"{album / name}: {warning}")
                for name in ("b.wav", "bonus/c.ogg")
                for warning in found[Path(name).name].prediction.warnings
            ),
            ("WARNING", str(found["text.mp3"].error)),
        ]
    )


def test_one_worker_and_many_agree(album: Path, classifier: Classifier) -> None:
    paths = list(find_audio([album], recursive=True)) * 3
    one, many = (list(classify_files(classifier, paths, workers=n)) for n in (1, 4))
    assert one == many
    assert len(one) == 9


def test_an_endless_list_is_read_as_needed(album: Path, classifier: Classifier) -> None:
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield album / "a.flac"

    answers = classify_files(classifier, endless(), workers=2)
    assert next(answers).error is None
    assert asked <= 4
    answers.close()


def test_copies_give_the_same(album: Path, classifier: Classifier, tmp_path: Path) -> None:
    shutil.copy(album / "a.flac", tmp_path / "copy.flac")
    first, second = classify_files(classifier, [album / "a.flac", tmp_path / "copy.flac"])
    assert first.prediction == second.prediction


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors have no paths here")
def test_descriptors_are_those_of_the_process_that_gave_them(
    album: Path, classifier: Classifier
) -> None:
    plain = classifier.predict(album / "a.flac")
    nonsense, gone = album / "nonsense", album / "gone.flac"
    nonsense.write_text("no audio")
    shutil.copy(album / "a.flac", gone)
    reader, writer = os.pipe()
    with (
        (album / "a.flac").open("rb") as good,
        nonsense.open("rb") as bad,
        gone.open("rb") as open_,
    ):
        gone.unlink()
        (album / "link.flac").symlink_to(f"/dev/fd/{good.fileno()}")
        numbers = (good.fileno(), bad.fileno(), open_.fileno(), reader, 9999)
        paths = [Path(f"/dev/fd/{number}") for number in numbers]
        paths += [Path(f"/proc/self/fd/{good.fileno()}"), album / "link.flac"]
        answers = list(classify_files(classifier, paths, workers=1))
    os.close(reader)
    os.close(writer)
    assert [answer.path for answer in answers] == paths
    errors = [str(answer.error or "") for answer in answers]
    assert errors[0] == errors[2] == errors[5] == errors[6] == ""
    assert [answers[i].prediction for i in (0, 2, 5, 6)] == [plain] * 4
    assert errors[1].startswith(f"{paths[1]}: not audio")
    assert errors[3].startswith(f"{paths[3]}: it is a pipe, not a regular file. Save")
    assert errors[4].startswith(f"{paths[4]}: no such file")
