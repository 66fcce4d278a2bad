import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import commands
from genrescope.cli import app as app_module
from genrescope.cli import listing
from hostile import hostile
from tiny_backbones import save_checkpoint

GENRESCOPE = [sys.executable, "-m", "genrescope"]
RECIPE = """\
extends: original-cnn
name: tiny
representation: {name: mel-image, size: 32}
model: {name: cnn, channels: [4], hidden: 4}
epochs: 2
"""


def genrescope(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    # The hub's settings are read when its library is imported.
    run = commands.process if environment.keys() & {"HF_ENDPOINT", "HF_HOME"} else commands.run
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment}
    return run(*arguments, cwd=cwd, env=env, timeout=300)


@pytest.fixture(scope="module")
def genres(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two genres, high tones and low ones, ten clips each."""
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for genre, hertz in (("low", 200), ("high", 2000)):
        (folder / genre).mkdir()
        for i in range(10):
            time_s = np.arange(22050) / 22050
            tone = 0.4 * np.sin(2 * np.pi * hertz * (1 + i / 50) * time_s)
            noise = 0.01 * rng.standard_normal(len(tone))
            soundfile.write(folder / genre / f"{i}.wav", tone + noise, 22050)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["study"],
        ["classify"],
        ["similar"],
        ["robustness"],
        ["train"],
        ["learn"],
        ["list"],
        ["data"],
        ["data", "get"],
        ["data", "check"],
        ["cluster"],
        ["cluster", "classify"],
    ],
)
def test_help_of_every_command(command: list[str], tmp_path: Path) -> None:
    done = genrescope(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage: genrescope" in done.stdout
    if command not in ([], ["data"], ["cluster"]):
        assert "Examples" in done.stdout


def test_list_shows_every_kind(tmp_path: Path) -> None:
    done = genrescope("list", cwd=tmp_path)
    assert done.returncode == 0
    for word in (
        *("original-wav2vec2", "why-so-low", "filtered", "mel-image", "encoder"),
        "telephone",
    ):
        assert word in done.stdout


def test_list_of_one_kind(tmp_path: Path) -> None:
    recipes = genrescope("list", "recipes", cwd=tmp_path)
    assert recipes.returncode == 0
    for name in ("knn", "gradient-boosting-3s", "mlp", "cnn", "wav2vec2-lstm", "ensemble"):
        assert re.search(rf"^ {name} ", recipes.stdout, re.MULTILINE), name
    assert "leaky-segments" not in recipes.stdout
    wrong = genrescope("list", "colours", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "no kind 'colours' to list; there are: datasets, recipes" in wrong.stderr


@pytest.mark.parametrize("command", [["list"], ["--help"]])
def test_list_and_help_need_no_extra(command: list[str]) -> None:
    extras = ["torch", "lightning", "sklearn", "scipy", "transformers", "onnx", "matplotlib"]
    code = (
        "import sys; "
        f"sys.modules.update(dict.fromkeys({extras})); "  # importing them raises ImportError
        "from genrescope.cli.app import main; "
        f"sys.argv[1:] = {command}; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    code = (
        "import sys; from genrescope.cli.app import app; "
        f"app({command}, standalone_mode=False); "
        f"sys.exit(', '.join({{*{extras}}} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imports {done.stderr}"


def test_listed_models_are_the_registered_ones() -> None:
    from genrescope.models import MODELS
    from genrescope.models.classical import ESTIMATORS

    registered = {**MODELS, **ESTIMATORS}
    assert listing.models() == {
        name: str(registered[name].__doc__).strip().splitlines()[0] for name in sorted(registered)
    }


@pytest.mark.parametrize(
    ("former", "current", "note"),
    [
        ("data get x --to y", "data get x --out y", "--to is now called --out"),
        ("export --to csv", "export --format csv", "--to is now called --format"),
        ("export --to=csv", "export --format=csv", "--to is now called --format"),
        ("serve --waiting 3", "serve --max-queue 3", "--waiting is now called --max-queue"),
        ("similar a --in b", "similar a --library b", "--in is now called --library"),
        ("similar a --index b", "similar a --db b", "--index is now called --db"),
        ("study --store a", "study --cache-dir a", "--store is now called --cache-dir"),
        ("study --extents full", "study --audio-variants full", "called --audio-variants"),
        ("train --store=a", "train --cache-dir=a", "--store is now called --cache-dir"),
        ("tag plan . --map a", "tag plan . --taxonomy a", "--map is now called --taxonomy"),
        ("tag plan . --keep", "tag plan . --existing add", "--keep is now called --existing add"),
        ("tag plan --if-empty .", "tag plan --existing skip .", "called --existing skip"),
        ("tag plan --replace .", "tag plan --existing replace .", "called --existing replace"),
    ],
)
def test_former_names_of_options_still_work(
    former: str, current: str, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app_module._current_words(former.split()) == current.split()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Note: ")
    assert line.endswith(f"{note}.")


def test_current_names_of_options_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["export", "--format", "csv", "--", "--to"],
        ["tag", "apply", "--map"],
        ["classify", "--to", "--in"],
        ["tag"],
        [],
    ):
        assert app_module._current_words(words) == words
    assert capsys.readouterr().err == ""


def test_a_former_option_gets_one_note_and_does_the_same(tmp_path: Path) -> None:
    done = genrescope("export", "--to", "csv", "--db", "none.db", "--to=csv", cwd=tmp_path)
    first, second = done.stderr.splitlines()
    assert first == "Note: --to is now called --format."
    assert second.startswith("Error: none.db: ")


def test_former_commands_and_names_are_errors_that_name_the_new_ones(tmp_path: Path) -> None:
    for line, told in (
        ("classify --cluster local --input a --output b", "genrescope cluster classify INPUT"),
        ("study report", "The study report is now called original."),
        ("study --protocols report", "The protocol report is now called random."),
        ("study --recipes report-cnn", "report-cnn is now called original-cnn."),
    ):
        done = genrescope(*line.split(), cwd=tmp_path)
        assert done.returncode == 1
        assert told in done.stderr


def test_version(tmp_path: Path) -> None:
    assert commands.process("--version", cwd=tmp_path).stdout.startswith("genrescope ")


@pytest.mark.slow
def test_study_on_a_folder_then_classify_with_its_model(genres: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    done = genrescope(
        *("study", "--data", genres, "--recipes", "tiny.yaml", "--protocols", "random"),
        *("--seeds", 1, "--out", "out", "--cache-dir", "store", "--jobs", 1),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "out/report.html" in done.stdout
    assert (tmp_path / "out" / "results.csv").is_file()
    clip, text = genres / "low" / "0.wav", tmp_path / "not-audio.wav"
    text.write_text("hello")
    told = genrescope(
        "classify", "--model", "out/models/tiny-random", "--jsonl", clip, text, clip, cwd=tmp_path
    )
    assert told.returncode == 1  # one file failed …
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert [row["path"] for row in rows] == [str(clip), str(text), str(clip)]
    assert rows[0] == rows[2]  # … the others did not
    assert {entry["label"] for entry in rows[0]["scores"]} == {"low", "high"}
    assert sum(entry["score"] for entry in rows[0]["scores"]) == pytest.approx(1, abs=1e-5)
    assert "not-audio.wav" in rows[1]["error"]
    plain = genrescope("classify", "--model", "out/models/tiny-random", clip, cwd=tmp_path)
    assert plain.returncode == 0
    assert plain.stdout.startswith(f"{clip}: ")


def test_classify_without_a_model_and_every_form(genres: Path, tmp_path: Path) -> None:
    low, high = genres / "low" / "0.wav", genres / "high" / "0.wav"
    csv_form = genrescope("classify", "--csv", genres / "low", cwd=tmp_path)
    lines = csv_form.stdout.splitlines()
    assert lines[0] == "path,genre,confidence,unsure,warnings"
    assert len(lines) == 11
    array = json.loads(genrescope("classify", "--json", low, high, cwd=tmp_path).stdout)
    assert [row["path"] for row in array] == [str(low), str(high)]
    assert len(array[0]["tags"]) == 5
    timed = genrescope("classify", "--jsonl", "--timeline", low, cwd=tmp_path)
    assert len(json.loads(timed.stdout)["timeline"]["genres"]) == 1
    piped = subprocess.run(
        [*GENRESCOPE, "classify", "-", "--jsonl", "--top-k", "2"],
        input=f"{low}\n{high}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in piped.stdout.splitlines()]
    assert [row["path"] for row in rows] == [str(low), str(high)]
    assert all(len(row["scores"]) == len(row["tags"]) == 2 for row in rows)
    drawn = genrescope("classify", low, "--plot", "low.png", cwd=tmp_path)
    assert drawn.returncode == 0
    assert (tmp_path / "low.png").read_bytes().startswith(b"\x89PNG")
    assert genrescope("classify", "--json", "--csv", low, cwd=tmp_path).returncode == 2
    assert genrescope("classify", low, high, "--plot", "x.png", cwd=tmp_path).returncode == 2


def test_real_clips_get_sensible_genres(gtzan: Path, tmp_path: Path) -> None:
    clips = [gtzan / "genres_original" / g / f"{g}.00000.flac" for g in ("metal", "classical")]
    told = genrescope("classify", "--jsonl", *clips, cwd=tmp_path)
    assert [json.loads(line)["genre"] for line in told.stdout.splitlines()] == [
        "metal",
        "classical",
    ]


def test_classify_imports_neither_torch_nor_librosa(genres: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from genrescope.cli.app import app; "
        f"app(['classify', {str(genres / 'low' / '0.wav')!r}], standalone_mode=False); "
        "heavy = {'torch', 'librosa', 'lightning', 'sklearn', 'transformers', 'matplotlib', 'av', "
        "'scipy', 'PIL'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imports {done.stderr}"


def test_help_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys; from genrescope.cli.app import app; app(['--help'], standalone_mode=False); "
        "slow = {'numpy', 'onnxruntime', 'pydantic', 'rich.markdown', 'importlib.resources'}; "
        "sys.exit(', '.join(slow & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "classify" in done.stdout
    assert done.returncode == 0, f"imports {done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "study"])
def test_a_genre_none_of_whose_files_can_be_decoded_is_an_error(
    genres: Path, tmp_path: Path, command: str
) -> None:
    shutil.copytree(genres, tmp_path / "music")
    (tmp_path / "music" / "noise").mkdir()
    for number in range(10):
        (tmp_path / "music" / "noise" / f"{number}.wav").write_bytes(b"no audio %d" % number)
    (tmp_path / "music" / "Low").mkdir()
    shutil.move(tmp_path / "music/low/9.wav", tmp_path / "music/Low")
    options = {"train": ("--recipe", "musicnn-head"), "study": ("--recipes", "musicnn-head")}
    done = genrescope(
        *(command, "--data", "music", "--out", "out", "--cache-dir", "store", "--jobs", 1),
        *options[command],
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stdout
    assert "'Low', 'low' are one genre, 'low'" in done.stderr
    assert "no track can be used of the genre 'noise'" in done.stderr
    assert "--allow-missing-genres" in done.stderr
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.slow
def test_train_a_classifier_of_ones_own_genres(genres: Path, tmp_path: Path) -> None:
    done = genrescope(
        *("train", "--data", genres, "--out", "mine", "--cache-dir", "store", "--jobs", 1),
        *("--license", "cc0-1.0"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "2 genres, 20 tracks; accuracy" in done.stdout
    told = genrescope(
        *("classify", "--model", "mine", "--jsonl", genres / "high", genres / "low"), cwd=tmp_path
    )
    guessed = [json.loads(line) for line in told.stdout.splitlines()]
    right = [row["genre"] == Path(row["path"]).parent.name for row in guessed]
    assert sum(right) >= 18
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "protocol | `kfold`" in card
    assert "license: cc0-1.0\n" in card
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    refused = genrescope("train", "--data", genres, "--out", "precious", cwd=tmp_path)
    assert refused.returncode == 1
    assert "not a model folder" in refused.stderr


def test_a_pdf_without_a_browser_is_refused_before_the_study(tmp_path: Path) -> None:
    done = genrescope("study", "--quick", "--pdf", cwd=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "--pdf needs Chromium, Chrome or Edge" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_quick_study_of_the_demo_needs_no_data_and_no_network(tmp_path: Path) -> None:
    done = genrescope(
        *("study", "--quick", "--recipes", "original-cnn,original-wav2vec2", "--seeds", 1),
        cwd=tmp_path,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        HF_ENDPOINT="http://192.0.2.1",  # an address that never answers: it must not be tried
    )
    assert done.returncode == 0, done.stderr
    assert "synthetic demo set" in done.stderr
    assert "genrescope data get gtzan" in done.stderr
    assert "weights not available" in done.stdout
    out = tmp_path / "study-original-quick-demo"
    for name in ("results.csv", "results.json", "report.md", "report.html"):
        assert (out / name).stat().st_size > 0


@pytest.mark.slow
def test_weights_that_the_hub_does_not_give_are_marked_soon(genres: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    with socket.socket() as closed:  # bound, never listening: refuses
        closed.bind(("127.0.0.1", 0))
        began = time.monotonic()
        done = genrescope(
            *("study", "--data", genres, "--recipes", "original-wav2vec2,tiny.yaml", "--seeds", 1),
            *("--protocols", "random", "--cache-dir", "store"),
            cwd=tmp_path,
            HF_ENDPOINT=f"http://127.0.0.1:{closed.getsockname()[1]}",
            HF_HOME=str(tmp_path / "hf"),
        )
    assert done.returncode == 0, done.stderr
    assert "cannot be fetched from the hub" in " ".join(done.stderr.split())
    assert "weights not available" in done.stdout
    assert time.monotonic() - began < 120


@pytest.mark.slow
def test_an_encoder_encodes_parts_of_a_batch_and_says_how_large(
    genres: Path, tmp_path: Path
) -> None:
    save_checkpoint("wav2vec2", tmp_path / "tiny")
    recipe = {
        "extends": "original-wav2vec2",
        "representation": {"seconds": 1},
        "model": {"weights": str(tmp_path / "tiny"), "hidden": 8},
        "epochs": 1,
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps(recipe))
    study = ("study", "--data", genres, "--recipes", "tiny.yaml", "--protocols", "random")
    done = genrescope(*study, "--seeds", 2, "--micro-batch", 3, "--no-download", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stderr.split()).count("encodes 3 of 8 clips of a batch at once") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["study", "--data", "nowhere"], ["nowhere", "no such folder"]),
        (["study", "no-such-study"], ["no-such-study", "why-so-low"]),
        (["study", "--recipes", "no-such"], ["no-such", "original-mlp"]),
        (["study", "--protocols", "report"], ["report", "filtered"]),
        (["study", "--recipes", "mlp,svm", "--micro-batch", "2"], ["--micro-batch", "mlp, svm"]),
        (["study", "--data", "empty"], ["empty", "genre"]),
        (["study", "--data", "bad.csv"], ["bad.csv", "genre", "missing"]),
        (["classify", "--model", "nowhere", "x.wav"], ["nowhere", "model folder"]),
        (["data", "get", "fma"], ["fma", "gtzan"]),
        (["data", "check", "nowhere"], ["nowhere", "no such folder"]),
    ],
)
def test_errors_name_file_cause_and_remedy(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("path,loudness\na.wav,rock\n")
    done = genrescope(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = " ".join(done.stderr.split())
    for word in words:
        assert word in message


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "study"])
def test_damaged_clips_and_those_that_crash_a_decoder_are_named_and_left_out(
    genres: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    shutil.copytree(genres, tmp_path / "music")
    cut = tmp_path / "music" / "high" / "9.wav"
    soundfile.write(cut, 0.4 * np.sin(np.arange(3 * 22050) / 2), 22050)
    cut.write_bytes(cut.read_bytes()[: round(0.7 * 132_300)])
    (tmp_path / "music" / "low" / "9.wav").rename(tmp_path / "music" / "low" / "deadly.wav")
    options = {
        "train": ("--recipe", "tiny.yaml"),
        "study": ("--recipes", "tiny.yaml", "--protocols", "random", "--seeds", 1),
    }
    common = ("--data", "music", "--cache-dir", "store", "--jobs", 1)
    done = genrescope(
        *(command, *common, "--out", "out", *options[command]),
        cwd=tmp_path,
        **hostile(tmp_path, die="deadly.wav"),
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    told = done.stderr
    if command == "study":
        told = (tmp_path / "out" / "report.md").read_text()
    assert "deadly.wav: its decoder crashed, or there was no memory left" in told
    assert "9.wav: 0.90 s of 3.0 s could not be decoded: it is damaged or cut off" in told
    assert len(list((tmp_path / "store").rglob("*.npy"))) == 18
    strict = genrescope(
        *(command, *common, "--out", "strict", *options[command], "--strict"), cwd=tmp_path
    )
    assert strict.returncode == 1
    assert "9.wav" in strict.stderr


@pytest.mark.slow
def test_strict_fails_where_the_default_goes_on(genres: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    music = tmp_path / "music"
    for genre in ("low", "high"):
        (music / genre).mkdir(parents=True)
        for clip in (genres / genre).iterdir():
            (music / genre / clip.name).write_bytes(clip.read_bytes())
    cut = music / "low" / "9.wav"
    cut.write_bytes(cut.read_bytes()[:20000])
    (music / "silent genre").mkdir()
    common = ("study", "--data", music, "--recipes", "tiny.yaml", "--protocols", "random")
    more = ("--seeds", 1, "--cache-dir", "store", "--jobs", 1)
    lenient = genrescope(*common, *more, "--out", "lenient", "--allow-missing-genres", cwd=tmp_path)
    assert lenient.returncode == 0, lenient.stderr
    report = (tmp_path / "lenient" / "report.md").read_text()
    assert "9.wav: it is damaged or cut off" in report
    assert "silent genre: the genre holds no audio files" in report
    strict = genrescope(*common, *more, "--out", "strict", "--strict", cwd=tmp_path)
    assert strict.returncode == 1
    assert "silent genre" in strict.stderr
    (music / "silent genre").rmdir()
    strict = genrescope(*common, *more, "--out", "strict", "--strict", cwd=tmp_path)
    assert strict.returncode == 1
    assert "9.wav" in strict.stderr


def test_get_without_a_network_fails_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/genres.tar.gz"
        began = time.monotonic()
        done = genrescope(
            *("data", "get", "gtzan", "--out", "here", "--url", url),
            cwd=tmp_path,
            http_proxy=f"http://127.0.0.1:{closed.getsockname()[1]}",
            https_proxy=f"http://127.0.0.1:{closed.getsockname()[1]}",
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "genres.tar.gz" in done.stderr
    assert time.monotonic() - began < 30


def test_check_of_a_part_of_gtzan(tmp_path: Path) -> None:
    clip = tmp_path / "gtzan" / "genres_original" / "blues" / "blues.00000.wav"
    clip.parent.mkdir(parents=True)
    soundfile.write(clip, np.sin(np.arange(22050 * 30) / 20) / 2, 22050)
    good = genrescope("data", "check", "gtzan", "--json", cwd=tmp_path)
    assert json.loads(good.stdout)["counts"]["corrupt"] == 0
    assert good.returncode == 0
    clip.write_bytes(clip.read_bytes()[:100000])
    bad = genrescope("data", "check", "gtzan", cwd=tmp_path)
    assert bad.returncode == 1
    assert "blues.00000.wav" in bad.stdout
    assert "train" in bad.stdout


def wait_for_curves(out: Path) -> None:
    deadline = time.monotonic() + 180
    while not list(out.glob("runs/*/*/*/*/curves.csv")):
        assert time.monotonic() < deadline, "no fit began"
        time.sleep(0.2)


@pytest.mark.slow
def test_interrupted_study_says_how_to_go_on(genres: Path, tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(RECIPE.replace("epochs: 2", "epochs: 100000"))
    arguments = ["--recipes", "long.yaml", "--seeds", "1", "--protocols", "random", "--out", "out"]
    process = subprocess.Popen(
        [*GENRESCOPE, "study", "--data", str(genres), "--cache-dir", "store", *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_curves(tmp_path / "out")
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    watchdog.cancel()
    assert process.returncode == 130
    assert "Run the same command again" in told


@pytest.mark.slow
def test_workers_end_when_their_study_is_killed(genres: Path, tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(RECIPE.replace("epochs: 2", "epochs: 100000"))
    arguments = ["--recipes", "long.yaml", "--seeds", "1", "--protocols", "random", "--out", "out"]
    process = subprocess.Popen(
        [*GENRESCOPE, "study", "--data", str(genres), "--cache-dir", "store", *arguments],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    wait_for_curves(tmp_path / "out")
    process.kill()
    process.wait()
    time.sleep(3)
    curves = next((tmp_path / "out" / "runs").glob("*/*/*/*/curves.csv"))
    size = curves.stat().st_size
    time.sleep(3)
    assert curves.stat().st_size == size
