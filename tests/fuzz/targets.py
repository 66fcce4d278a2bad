"""What is fuzzed: every parser of files that somebody else may have made or changed.

The tests here and ``tools/fuzz.py`` share these targets. Whatever a file holds, opening it works or
raises a GenrescopeError of one line that names it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from genrescope.classifier import Classifier, Prediction
from genrescope.datasets import folder as folders
from genrescope.datasets import gtzan
from genrescope.datasets.check import CHECKSUMS
from genrescope.datasets.check import check as check_gtzan
from genrescope.errors import GenrescopeError
from genrescope.library.catalogue import Catalogue, CatalogueEntry
from genrescope.library.stats import summarise
from genrescope.tagging.journal import Journal
from genrescope.tagging.plan import Step, open_plan, write_plan
from genrescope.taxonomy import load_taxonomy

LIMIT_S = 5.0
_SHM = Path("/dev/shm")  # noqa: S108  no disk to wait for
MEMORY = _SHM if _SHM.is_dir() else None
LONGEST = 50_000  # letters of an error

Change = tuple[str, float, int]
"""A way to damage a file, where in it (a share of its length), and a number to choose by."""


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes
    ----------
    file
        Where the content lies, below a folder of its own.
    seeds
        Gives valid contents.
    open
        Given that file, does with it what genrescope does.
    parse, write
        Of formats that hold values: from text to values, and back.
    """

    file: str
    seeds: Callable[[], list[bytes]]
    open: Callable[[Path], object]
    parse: Callable[[bytes], Any] | None = None
    write: Callable[[Any], str] | None = None


def check(target: Target, content: bytes) -> bool:
    """Return whether a file of this content was taken; fail if it was neither that nor refused."""
    with tempfile.TemporaryDirectory(prefix="genrescope-fuzz-", dir=MEMORY) as name:
        folder = Path(name)
        path = folder / target.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        begun = time.monotonic()
        try:
            target.open(path)
            taken = True
        except GenrescopeError as error:
            shown = str(error)
            assert str(folder) in shown, shown
            assert len(shown.splitlines()) == 1, shown
            assert len(shown) < LONGEST, shown
            taken = False
        took = time.monotonic() - begun
        assert took < LIMIT_S, f"{took:.1f} s"
        return taken


# Settings.


def bundled(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(str(files("genrescope"))).glob(pattern))]


def open_recipe(path: Path) -> None:
    from genrescope.training.recipe import Ensemble, load_entry

    entry = load_entry(str(path))
    if not isinstance(entry, Ensemble):
        assert len(entry.hash) == 12
        assert entry.quick().name == entry.name


def open_study(path: Path) -> None:
    from genrescope.study.config import load_study

    assert load_study(str(path)).quick_version().entries


RECIPE = b"""\
extends: knn
name: mine
about: All that a recipe may say.
representation: {name: mfcc, coefficients: 13, seconds: 3.0, loop: true, hz: 16000}
augmentations: [mp3]
normalise: standardise
search: {neighbours: [1, 3]}
calibrate: true
"""
NETWORK = b"""\
name: a network
representation: {name: segments, of: {name: mfcc, seconds: 3}, seconds: 3, count: 2}
model: {name: mlp, widths: [8]}
windows: {length: 64, count: 2}
augment: {mixup: 0.2, time_masks: 1, time_mask: 8}
optimiser: {name: adamw, lr: 1.0e-3, weight_decay: 0.01}
schedule: {name: cosine, warmup: 0.1}
batch_size: 16
epochs: 10
members: 2
patience: null
"""
STUDY = b"""\
name: Mine
recipes:
- knn
- {extends: cnn, name: short, epochs: 2}
- ensemble
protocols: [filtered, random]
audio_variants: [full]
skip: {knn: [random]}
train_shares: [0.5]
seeds: 2
"""


def write_yaml(values: Any) -> str:
    return yaml.safe_dump(values, allow_unicode=True)


# Genres.

TOML = b"""\
extends = "default"
whitelist = ["Rock", "Jazz", "Electronic", "Drum & Bass"]
[aliases]
"d'n'b" = "Drum & Bass"
[tree]
Electronic = ["Drum & Bass", "Techno"]
"""
TREE = b"# kinds\nRock\n  Punk\n    Hardcore Punk\n  Indie Rock\nJazz\n"
ALIASES = "D&B = Jazz\nhard rock = Rock\n塔 = Pop\n".encode()


def open_taxonomy(path: Path) -> None:
    taxonomy = load_taxonomy(path)
    for name in ("Rock", "d'n'b", "(17)", "塔", "Drum and Bass"):
        genre = taxonomy.canonical(name)
        assert genre is None or genre.strip()
        taxonomy.is_within(name, "Rock")
    taxonomy.map_probabilities({"rock": 0.5, "jazz": 0.4})


def open_taxonomy_text(part: str) -> Callable[[Path], None]:
    def attempt(path: Path) -> None:
        rest = 'whitelist = ["Rock", "Jazz", "Pop"]\n' if part == "aliases" else ""
        settings = path.with_name("mine.toml")
        settings.write_text(f"{rest}{part} = {path.name!r}\n")
        open_taxonomy(settings)

    return attempt


# The library.


def plan_seed() -> bytes:
    steps = [
        Step("write", "a/b.mp3", ("Rock",), ("Jazz", "Soul"), 0.91, "it is empty", "v1f-2a"),
        Step("leave", "塔, x/c.flac", (), (), None, "it has changed, since", "v0-0", "Pop 0.62"),
        Step("write", 'd "e".ogg', (), ("Pop",), 0.5, "none", "v9-9"),
    ]
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "plan.csv"
        write_plan(path, Path("/music"), steps)
        return path.read_bytes()


def open_plan_whole(path: Path) -> None:
    for step in open_plan(path).steps():
        assert step.action in ("write", "leave", "review")
        assert not Path(step.path).is_absolute()
        assert ".." not in Path(step.path).parts


def database_seed(fill: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "some.db"
        fill(path)
        return path.read_bytes()


def fill_journal(path: Path) -> None:
    with Journal(path) as journal:
        for key in ("aaa", "bbb"):
            steps = [(f"{key}/{i}.mp3", "v1-1", ("Rock",), ("Jazz", "塔")) for i in range(70)]
            number = journal.register(key, Path("p.csv"), Path("/m"), steps, preserve_mtime=False)
            first, second, *_ = journal.changes(number, "waiting")
            journal.ready(first, 5, b"patch" * 500)
            journal.end(second, "failed", "it is read-only")


def open_journal(path: Path) -> None:
    with Journal(path) as journal:
        for entry in journal.plans():
            assert all(isinstance(count, int) for count in entry.counts.values())
            for newest_first in (False, True):
                states = ("waiting", "ready", "done", "failed")
                for change in journal.changes(entry.number, *states, newest_first=newest_first):
                    assert all(isinstance(name, str) for name in (*change.old, *change.new))
        steps = [("new.mp3", "v1-1", (), ("Pop",))]
        number = journal.register("ccc", Path("p"), Path("/m"), steps, preserve_mtime=True)
        journal.cancel(number)


@lru_cache(maxsize=1)
def default_classifier() -> Classifier:
    return Classifier.default()


def fill_catalogue(path: Path) -> None:
    classifier = default_classifier()
    shares = dict.fromkeys(classifier.genres, 0.1)
    with Catalogue(path, write=True) as catalogue:
        model, walk = catalogue.model(classifier), catalogue.begin_walk()
        catalogue.see("/m", [CatalogueEntry(f"{i}.mp3", i, i) for i in range(20)], walk)
        catalogue.end_walk("/m", walk)
        catalogue.register("/m")
        tags, warnings = {"guitar": 0.9, "loud": 0.2}, ("1 s of 9 s could not be decoded",)
        unsure = Prediction("rock", 0.1, True, shares, tags, warnings)
        other = Prediction("rock", 0.1, False, shares, tags, warnings, other=True)
        embedding = np.ones(classifier.embedding_width, np.float16)
        for waiting in catalogue.waiting("/m", model):
            fault = GenrescopeError("it is damaged (1 s). Fix it.")
            results = fault, (unsure, embedding), (other, embedding)
            result = results[waiting.row % 3]
            catalogue.save(waiting.row, None, b"f" * 16, model, result)


def open_catalogue(path: Path) -> None:
    with Catalogue(path) as catalogue:
        for known in catalogue.tracks():
            assert known.prediction is None or isinstance(known.prediction.label, str)
        json.dumps(summarise(catalogue).to_json())
        for tracks, embeddings in catalogue.embeddings("/m", default_classifier()):
            for track in tracks:
                assert isinstance(track.label, str)
                assert 0 <= track.confidence <= 1
            assert np.isfinite(embeddings).all()
        list(catalogue.waiting("/m", 1))
        catalogue.count_waiting("/m", 1)
        for library in catalogue.libraries():
            assert library.scanned is None or datetime.fromtimestamp(library.scanned)
        for model in catalogue.models():
            assert isinstance(model.name, str)
        known = [file.row for file in catalogue.files("/m")]
    with Catalogue(path, write=True) as catalogue:
        walk = catalogue.begin_walk()
        catalogue.see("/m", [CatalogueEntry("new.mp3", 1, 1), CatalogueEntry("2.mp3", 9, 9)], walk)
        catalogue.end_walk("/m", walk)
        catalogue.register("/m")
        catalogue.move("/m", "/n", missing=known[:1], changed=known[1:2])
        catalogue.forget("/n")
        catalogue.compact()


# Model folders.

MFCC = {"name": "mfcc", "version": 1, "coefficients": 4, "seconds": 1.0}
GENRES = ("blues", "jazz", "rock")


@lru_cache(maxsize=1)
def network_seed() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["hidden"], transB=1),
            helper.make_node("Relu", ["hidden"], ["logits"]),
        ],
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4, 44])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(rng.standard_normal((3, 176)).astype(np.float32), "weights"),
            numpy_helper.from_array(np.zeros(3, np.float32), "bias"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return made


def config_seeds() -> list[bytes]:
    shown = {
        "format": 1,
        "genres": GENRES,
        "representation": MFCC,
        "unsure_below": 0.5,
        "files": {"model.onnx": hashlib.sha256(network_seed()).hexdigest()},
        "trained": {"accuracy": 0.5, "recall": {"jazz": None}},
    }
    return [
        json.dumps(shown).encode(),
        json.dumps({**shown, "representation": {**MFCC, "loop": True}}).encode(),
    ]


def open_config(path: Path) -> None:
    path.with_name("model.onnx").write_bytes(network_seed())
    classifier = Classifier(path.parent)
    classifier.logits(np.zeros((2, *classifier.representation.shape), np.float32))
    assert len(classifier.key) == 16


def open_network(path: Path) -> None:
    config = {"genres": GENRES, "representation": MFCC}
    path.with_name("config.json").write_text(json.dumps(config))
    shares = Classifier(path.parent).probabilities(np.ones((3, 4, 44), np.float32))
    assert shares.shape == (3, 3)
    assert np.isfinite(shares).all()


# Data sets.

CSV = (
    'path,genre,artist\na.wav,rock,Ä\n b.wav ,jazz,\nmissing.wav,pop,X\n"c\n.wav",pop,Y\n'.encode()
)
ARTISTS = b"blues.00000 ::: John ::: One\njazz.00001.wav ::: Ella & Louis :::\n"
DIGESTS = b"file,sha256\ngenres/blues/blues.00000.au," + b"0" * 64 + b"\n"


def open_csv(path: Path) -> None:
    for number, name in enumerate(("a.wav", "b.wav")):
        path.with_name(name).write_bytes(b"RIFF%d" % number)
    found = folders.read_csv(path)
    assert found.tracks
    assert len(found.checksum) == 16


def table_seed() -> bytes:
    header = ",".join(["filename", "length", *gtzan.TABLE_COLUMNS, "label"])
    row = ",".join(["1.5"] * len(gtzan.TABLE_COLUMNS))
    lines = [f"{name},661794,{row},{name[:-10]}" for name in ("blues.00000.wav", "jazz.00001.wav")]
    return "\n".join([header, *lines, ""]).encode()


def open_gtzan(path: Path) -> None:
    # path is one of its tables, the others are whole.
    root = path.parents[1] if path.parent.name == "metadata" else path.parent
    (root / "metadata").mkdir(exist_ok=True)
    wholes = {gtzan.TABLE: table_seed(), str(gtzan.INDEX): ARTISTS, str(CHECKSUMS): DIGESTS}
    for name, whole in wholes.items():
        if root / name != path:
            (root / name).write_bytes(whole)
    found = gtzan.read(root)
    assert found.tracks
    assert len(found.checksum) == 16
    check_gtzan(root, workers=1)


TARGETS = {
    "recipe": Target(
        "mine.yaml",
        lambda: [*bundled("recipes/*.yaml"), RECIPE, NETWORK],
        open_recipe,
        yaml.safe_load,
        write_yaml,
    ),
    "study": Target(
        "mine.yaml",
        lambda: [STUDY, *bundled("recipes/studies/report.yaml")],
        open_study,
        yaml.safe_load,
        write_yaml,
    ),
    "taxonomy": Target("mine.toml", lambda: [TOML], open_taxonomy),
    "taxonomy-tree": Target("tree.txt", lambda: [TREE], open_taxonomy_text("tree")),
    "taxonomy-aliases": Target("aliases.txt", lambda: [ALIASES], open_taxonomy_text("aliases")),
    "plan": Target("plan.csv", lambda: [plan_seed()], open_plan_whole),
    "journal": Target("journal.db", lambda: [database_seed(fill_journal)], open_journal),
    "catalogue": Target("library.db", lambda: [database_seed(fill_catalogue)], open_catalogue),
    "config": Target("model/config.json", config_seeds, open_config, json.loads, json.dumps),
    "network": Target("model/model.onnx", lambda: [network_seed()], open_network),
    "csv": Target("tracks.csv", lambda: [CSV], open_csv),
    "gtzan-table": Target(f"gtzan/{gtzan.TABLE}", lambda: [table_seed()], open_gtzan),
    "gtzan-artists": Target(f"gtzan/{gtzan.INDEX}", lambda: [ARTISTS], open_gtzan),
    "gtzan-digests": Target(f"gtzan/{CHECKSUMS}", lambda: [DIGESTS], open_gtzan),
}


# Damage.

TOKENS: Sequence[bytes] = (
    *(b"null", b"true", b"-1", b"0", b"1e999", b"nan", b"NaN", b"-Infinity", b"9" * 5000),
    *(b"1" + b"0" * 30, b"1e308", b"[]", b"{}", b"''", b'""', b"[[[[", b"{a: 1}", b"2020-99-99"),
    *(b"2020-01-01", b"!!python/object:os.system x", b"!!int x", b"!!bool 7", b"!!binary x"),
    *(
        b"!!timestamp x",
        b"!!set {a, b}",
        b"!!omap [a: 1]",
        b"&a [*a]",
        b"*a",
        b"&a ",
        b"<<: ",
        b"~",
    ),
    *(b"1:1:1", b"0x_", b"0b", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b'"', b";"),
    *(b"\xe2\x80\xa8", b"\x1b[31m", b"..", b"/", b"../../x", b"C:\\x", b"extends: knn"),
    *("塔".encode(), "\U0001f3b5".encode(), b"x" * 5000, b"knn", b"mfcc", b"segments", b"waveform"),
)
VALUES: Sequence[Any] = (
    *(None, True, -1, 0, 1, 10**30, 1e308, float("nan"), float("inf"), "", "x", "x" * 5000, "\n"),
    *("塔", "\x00", "~nobody/x", "/dev/zero", [], {}, [[]], [None], ["x"] * 500, {"": None}),
    *(
        {"name": "mfcc"},
        {"name": ["mfcc"]},
        {"name": "segments", "of": "segments"},
        "onnx:/dev/zero",
    ),
    *({"kind": "onnx", "source": "~nobody/x", "sha256": "0"}, {"kind": "musicnn", "source": []}),
    *("segments", "embedding", "mel-image", "picture-embedding", "picture-concat", "second-order"),
    {"name": "picture-concat", "of": [{"name": "picture-embedding", "backbones": ["onnx:x"]}]},
    *("2020-01-01", 0.5, 2, 1000, 10**9),
)
BYTE_WAYS = ("flip", "truncate", "insert", "erase", "copy", "field")
TEXT_WAYS = ("token", "word", "line")
WAYS = (*BYTE_WAYS, *TEXT_WAYS, "value")
_WORD = re.compile(rb"[\w.-]+|[^\w\s]")
_FIELDS = (
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x80",
    b"\xff" * 8,
    b"\x01",
)


def damage(target: Target, content: bytes, changes: Sequence[Change]) -> bytes:
    """Change a file in some ways, one after the other."""
    for way, where, number in changes:
        if way == "value":
            content = _other_value(target, content, where, number)
        elif way in TEXT_WAYS:
            content = _other_text(content, way, where, number)
        else:
            content = _other_bytes(content or b"\0", way, where, number)
    return content


def _other_bytes(content: bytes, way: str, where: float, number: int) -> bytes:
    data = bytearray(content)
    at, size = round(where * (len(data) - 1)), 1 + number % 40
    if way == "flip":
        data[at] ^= 1 << number % 8
    elif way == "truncate":
        del data[at:]
    elif way == "insert":
        data[at:at] = random.Random(number).randbytes(size)
    elif way == "erase":
        data[at : at + size] = bytes(len(data[at : at + size]))
    elif way == "copy":
        to = number * 7919 % len(data)
        data[to : to + size] = data[at : at + size]
    else:
        field = _FIELDS[number % len(_FIELDS)]
        data[at : at + len(field)] = field
    return bytes(data)


def _other_text(content: bytes, way: str, where: float, number: int) -> bytes:
    if way == "line":
        lines = content.splitlines(keepends=True) or [b""]
        at, other = round(where * (len(lines) - 1)), number % len(lines)
        if number % 3:
            lines.insert(at, lines[other])
        else:
            del lines[at]
        return b"".join(lines)
    words = list(_WORD.finditer(content))
    if not words:
        return content
    word, other = words[round(where * (len(words) - 1))], words[number % len(words)]
    new = TOKENS[number % len(TOKENS)] if way == "token" else other.group()
    return content[: word.start()] + new + content[word.end() :]


def _other_value(target: Target, content: bytes, where: float, number: int) -> bytes:
    if target.parse is None or target.write is None:
        return _other_text(content, "token", where, number)
    try:
        values = target.parse(content)
        places = list(_places(values))
        holder, key = places[round(where * (len(places) - 1))]
        way = number % 4
        if way == 0:
            del holder[key]
        elif way == 1 and isinstance(holder, dict):
            holder[TOKENS[number % len(TOKENS)].decode(errors="replace")] = holder[key]
        else:
            holder[key] = VALUES[number // 4 % len(VALUES)]
        return target.write(values).encode()
    except Exception:  # noqa: BLE001  it was damaged before, so it has no values
        return _other_text(content, "token", where, number)


def _places(values: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    if not isinstance(values, dict | list) or depth > 20:
        return []
    keys = list(values) if isinstance(values, dict) else list(range(len(values)))
    inner = [place for key in keys for place in _places(values[key], depth + 1)]
    return [*((values, key) for key in keys), *inner]


# Damage that checksums and formats do not stop.


def damaged_rows(content: bytes, changes: Sequence[tuple[int, int, int]]) -> bytes:
    """Write other values into a database: of each change, a column, a row and a value."""
    odd = (None, -1, 2**62, 0.5, "", "x", "[", "[1]", "[[]]", "{}", '["a"]', b"", b"\xff" * 7, "塔")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "some.db"
        path.write_bytes(content)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
        columns = [
            (table, column[1])
            for table, _ in tables.fetchall()
            for column in connection.execute(f"PRAGMA table_info({table})").fetchall()
        ]
        for column, row, value in changes:
            table, name = columns[column % len(columns)]
            try:
                connection.execute(
                    f"UPDATE {table} SET {name} = ? WHERE rowid = "  # noqa: S608
                    f"(SELECT rowid FROM {table} LIMIT 1 OFFSET ?)",
                    (odd[value % len(odd)], row % 20),
                )
            except sqlite3.Error:
                continue  # the schema does not let it be
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return path.read_bytes()


def work(name: str, count: int, seed: int) -> None:
    """Damage a target's seeds ``count`` times, in at most 4 GB of memory; print how many worked."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    target, rng, taken = TARGETS[name], random.Random(seed), 0
    seeds = target.seeds()
    for _ in range(count):
        changes = [
            (rng.choice(WAYS), rng.random(), rng.randrange(2**16)) for _ in range(rng.randint(1, 4))
        ]
        content = damage(target, rng.choice(seeds), changes)
        print(content.hex(), file=sys.stderr, flush=True)  # the last one caused a crash
        taken += check(target, content)
    print(count, taken)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
