"""A check finds what is missing, corrupt, there twice, known to be faulty, or none of GTZAN's."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from genrescope.datasets import gtzan
from genrescope.datasets.check import CheckReport, Coverage, check
from genrescope.datasets.findings import Finding, lines_of
from genrescope.datasets.gtzan import TABLE_COLUMNS
from genrescope.datasets.layout import Layout
from genrescope.errors import InputError

REAL = Path(__file__).resolve().parents[3] / "shared" / "gtzan"
needs_gtzan = pytest.mark.skipif(
    not REAL.is_dir(), reason="GTZAN itself is not beside the project (shared/gtzan)"
)


def write_clip(path: Path, *, seed: int, seconds: float = 30.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(-9000, 9000, int(seconds * 8000), np.int16)
    soundfile.write(path, samples, 8000)
    return path


def write_image(path: Path, colour: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", (432, 288), (colour, 0, 0, 255)).save(path)
    return path


def write_table(folder: Path, *names: str, value: float | None = None) -> Path:
    lines = [",".join(("filename", "length", *TABLE_COLUMNS, "label"))]
    for number, name in enumerate(names):
        cells = [str(number if value is None else value)] * len(TABLE_COLUMNS)
        lines.append(",".join((name, "661794", *cells, name.partition(".")[0])))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "features_30_sec.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def of(report: CheckReport, kind: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == kind]


def test_a_sound_copy_has_nothing_corrupt_or_double(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/blues/blues.00000.wav", seed=1)
    write_clip(tmp_path / "genres/blues/blues.00001.flac", seed=2)
    report = check(tmp_path)
    assert report.tracks == ("blues.00000", "blues.00001")
    assert report.counts == {
        "missing": 998 + 2,  # 998 tracks without audio; no table; no pictures
        "corrupt": 0,
        "duplicate": 0,
        "faulty": 0,
        "unlisted": 0,
        "unused": 0,
        "noted": 0,
    }


def test_a_short_clip_is_corrupt_but_a_short_excerpt_is_not(tmp_path: Path) -> None:
    short = write_clip(tmp_path / "genres_original/pop/pop.00000.wav", seed=1, seconds=12)
    write_clip(tmp_path / "excerpts_2s/pop/pop.00001.wav", seed=2, seconds=2)
    (finding,) = of(check(tmp_path), "corrupt")
    assert (finding.track, finding.path) == ("pop.00000", short)
    assert "12.0 s instead of 30 s" in finding.cause


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_clip_that_breaks_off_is_corrupt(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(tmp_path / f"genres/jazz/jazz.00054{suffix}", seed=1)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    write_clip(tmp_path / "genres/jazz/jazz.00000.wav", seed=2)
    (finding,) = of(check(tmp_path), "corrupt")
    assert (finding.track, finding.path) == ("jazz.00054", clip)
    assert "Nothing to do" in finding.remedy


@pytest.mark.parametrize("content", [b"", b"not audio at all" * 99], ids=["empty", "not audio"])
def test_one_file_that_is_no_audio_does_not_end_the_check(tmp_path: Path, content: bytes) -> None:
    write_clip(tmp_path / "genres/jazz/jazz.00000.wav", seed=2)
    bad = tmp_path / "genres/jazz/jazz.00001.mp3"
    bad.write_bytes(content)
    report = check(tmp_path)
    assert [finding.path for finding in of(report, "corrupt")] == [bad]


def test_a_picture_of_the_right_size_that_breaks_off_is_corrupt(tmp_path: Path) -> None:
    image = write_image(tmp_path / "images_original/pop/pop00000.png", 1)
    noise = np.random.default_rng(0).integers(0, 255, (288, 432, 4), np.uint8)
    Image.fromarray(noise).save(image)
    image.write_bytes(image.read_bytes()[:2000])
    wrong = tmp_path / "images_original/pop/pop00001.png"
    Image.new("RGBA", (100, 100)).save(wrong)
    report = check(tmp_path)
    assert [finding.path for finding in of(report, "corrupt")] == [image, wrong]
    assert "100 x 100" in of(report, "corrupt")[1].cause
    assert not [f for f in of(report, "missing") if f.track == "pop.00001" and "picture" in f.cause]


def test_the_same_samples_under_two_names_are_duplicates_in_any_lossless_format(
    tmp_path: Path,
) -> None:
    write_clip(tmp_path / "genres/pop/pop.00001.wav", seed=1)
    write_clip(tmp_path / "genres/rock/rock.00002.flac", seed=1)
    write_clip(tmp_path / "genres/rock/rock.00003.flac", seed=2)
    (finding,) = of(check(tmp_path), "duplicate")
    assert finding.cause == "pop.00001 has the same samples as rock.00002"
    assert "not what its name says" in finding.remedy


def test_two_formats_of_one_track_are_no_duplicates(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/pop/pop.00001.wav", seed=1)
    write_clip(tmp_path / "genres/pop/pop.00001.flac", seed=1)
    assert of(check(tmp_path), "duplicate") == []


def test_rows_and_pictures_that_are_the_same_make_one_finding(tmp_path: Path) -> None:
    write_table(tmp_path, "metal.00058.wav", "rock.00016.wav", value=3)
    write_image(tmp_path / "images_original/metal/metal00058.png", 5)
    write_image(tmp_path / "images_original/rock/rock00016.png", 5)
    (finding,) = of(check(tmp_path), "duplicate")
    assert "same row in the table and picture as rock.00016" in finding.cause
    assert "every copy of GTZAN" in finding.remedy


def test_known_faults_are_reported_of_the_tracks_that_are_there(tmp_path: Path) -> None:
    write_table(tmp_path, "jazz.00054.wav", "blues.00000.wav", "reggae.00086.wav")
    findings = of(check(tmp_path), "faulty")
    assert [finding.track for finding in findings] == ["jazz.00054", "reggae.00086"]
    assert "noise after its first 7 seconds" in findings[1].cause


def test_what_lacks_is_reported_once_for_a_source_and_else_track_by_track(tmp_path: Path) -> None:
    write_table(tmp_path, *(f"{track}.wav" for track in gtzan.track_ids()))
    write_image(tmp_path / "images_original/pop/pop00000.png", 1)
    missing = of(check(tmp_path), "missing")
    assert [f.cause for f in missing if f.track is None] == ["no track has any audio"]
    assert len([f for f in missing if f.cause == "no picture"]) == 999
    (jazz,) = [f for f in missing if f.track == "jazz.00054"]
    assert "none was ever published" in jazz.remedy


def test_files_that_do_not_belong_are_unlisted(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/pop/pop.00000.wav", seed=1)
    extra = write_clip(tmp_path / "genres/pop/pop.00100.wav", seed=2)
    (finding,) = of(check(tmp_path), "unlisted")
    assert finding.path == extra


def test_coverage_counts_usable_sources_of_each_filtered_list(tmp_path: Path) -> None:
    write_table(tmp_path, "blues.00029.wav", "blues.00000.wav", "metal.00058.wav")
    write_image(tmp_path / "images_original/blues/blues00012.png", 1)
    write_clip(tmp_path / "genres_original/blues/blues.00029.wav", seed=1)
    write_clip(tmp_path / "genres_original/blues/blues.00030.wav", seed=2, seconds=3)  # too short
    write_clip(tmp_path / "genres_16k/blues/blues.00029.flac", seed=3)
    write_clip(tmp_path / "excerpts_2s/blues/blues.00000.flac", seed=4, seconds=2)
    assert check(tmp_path).coverage == {
        "train": Coverage(443, rows=1, images=0, full=1, full_16k=1, excerpts=0),
        "valid": Coverage(197, rows=1, images=0, full=0, full_16k=0, excerpts=1),
        "test": Coverage(290, rows=0, images=1, full=0, full_16k=0, excerpts=0),
    }


def test_original_files_are_compared_with_their_checksums_if_one_has_them(tmp_path: Path) -> None:
    true = write_clip(tmp_path / "genres/pop/pop.00000.au", seed=1)
    false = write_clip(tmp_path / "genres/pop/pop.00001.au", seed=2)
    sums = tmp_path / "metadata/gtzan_au_sha256.csv"
    sums.parent.mkdir()
    right = hashlib.sha256(true.read_bytes()).hexdigest()
    sums.write_text(f"file,sha256,size\npop.00000.au,{right.upper()},1\npop.00001.au,{right},1\n")
    (finding,) = of(check(tmp_path), "corrupt")
    assert (finding.path, "SHA-256" in finding.cause) == (false, True)

    sums.write_text("name,sum\npop.00000.au,1\n")
    (finding,) = of(check(tmp_path), "corrupt")
    assert finding.path == sums


def test_progress_counts_every_file_once(tmp_path: Path) -> None:
    for number in range(3):
        write_clip(tmp_path / f"genres/pop/pop.{number:05d}.wav", seed=number, seconds=26)
    write_image(tmp_path / "images_original/pop/pop00000.png", 1)
    calls: list[tuple[int, int]] = []
    check(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_outcome_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    for number in range(4):
        write_clip(tmp_path / f"genres/pop/pop.{number:05d}.wav", seed=number // 2)
    assert check(tmp_path, workers=1) == check(tmp_path, workers=4)


def test_a_folder_without_music_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no genre folders with audio files in it"):
        check(tmp_path)
    with pytest.raises(InputError, match="it does not look like GTZAN"):
        check(tmp_path, layout=Layout.GTZAN)


def test_further_copies_are_unused_but_those_that_are_corrupt(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres_original/pop/pop.00000.wav", seed=1)
    spare = write_clip(tmp_path / "genres_16k/pop/pop.00000.flac", seed=1)
    short = write_clip(tmp_path / "genres_original/pop/pop.00000.flac", seed=1, seconds=3)
    report = check(tmp_path)
    assert [finding.path for finding in of(report, "unused")] == [spare]
    assert [finding.path for finding in of(report, "corrupt")] == [short]


def test_a_folder_of_ones_own_is_checked(tmp_path: Path) -> None:
    write_clip(tmp_path / "rock/a.wav", seed=1, seconds=1)
    write_clip(tmp_path / "rock/b.flac", seed=1, seconds=1)
    bad = write_clip(tmp_path / "jazz/c.wav", seed=2, seconds=1)
    bad.write_bytes(b"RIFF")
    loose = write_clip(tmp_path / "d.wav", seed=3, seconds=1)
    report = check(tmp_path)
    assert (report.genres, report.coverage, report.lacks_genre) == ({"rock": 2}, {}, True)
    assert [finding.path for finding in of(report, "corrupt")] == [bad]
    assert [finding.path for finding in of(report, "unused")] == [loose]
    assert "same samples" in of(report, "duplicate")[0].cause
    assert "genre 'jazz'" in of(report, "missing")[0].cause


def test_a_list_is_checked_and_its_missing_files_are_named(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.wav", seed=1, seconds=1)
    (tmp_path / "list.csv").write_text("path;genre\na.wav;rock\nb.wav;rock\n")
    report = check(tmp_path / "list.csv")
    assert report.genres == {"rock": 1}
    assert [finding.path.name for finding in of(report, "missing")] == ["b.wav"]


def test_each_missing_track_is_named_once(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/pop/pop.00000.wav", seed=1)
    missing = of(check(tmp_path), "missing")
    text = "\n".join(lines_of(missing, None))
    assert Counter(re.findall(r"[a-z]+\.\d{5}", text)) == dict.fromkeys(
        {*gtzan.track_ids()} - {"pop.00000"}, 1
    )
    short = lines_of(missing, 5)
    assert len(short) == 4
    assert "no audio of 999 tracks" in short[2]
    assert short[3].endswith("blues.00004 … and 994 more (--all names them)")


@needs_gtzan
@pytest.mark.slow
def test_the_real_folder() -> None:
    report = check(REAL)
    assert len(report.tracks) == 1000
    assert of(report, "corrupt") == of(report, "unlisted") == []
    assert len(of(report, "faulty")) == 85  # 70 left out, 14 kept of the pairs, jazz.00054
    pairs = {
        (finding.cause.partition(" ")[0], finding.cause.rpartition(" ")[2])
        for finding in of(report, "duplicate")
    }
    assert pairs == set(gtzan.IDENTICAL)
    assert [report.coverage[name].rows for name in ("train", "valid", "test")] == [443, 197, 290]
    assert [report.coverage[name].images for name in ("train", "valid", "test")] == [442, 197, 290]


@needs_gtzan
def test_a_real_clip_that_is_damaged_is_found(tmp_path: Path) -> None:
    clip = tmp_path / "genres_original/blues/blues.00000.flac"
    clip.parent.mkdir(parents=True)
    shutil.copyfile(REAL / "genres_original/blues/blues.00000.flac", clip)
    assert of(check(tmp_path), "corrupt") == []
    clip.write_bytes(clip.read_bytes()[:300_000])
    assert [finding.track for finding in of(check(tmp_path), "corrupt")] == ["blues.00000"]
