import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from genrescope.classifier import Classifier
from genrescope.library.many import classify_files, find_audio


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
