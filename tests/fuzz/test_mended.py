"""What fuzzing has found: files that once ended in a traceback, a hang or nonsense."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from genrescope.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
from targets import TARGETS, check, network_seed

BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 12)
)
PLAIN = b"name: mine\nrepresentation: {name: mfcc}\n"
NETWORK = b"optimiser: {lr: %s}\nbatch_size: 8\nepochs: 2\n"

REFUSED = {
    "a date that is none": ("recipe", b"name: 2020-99-99\n"),
    "a date": ("recipe", PLAIN + b"model: {name: knn, neighbours: 2020-01-01}\n"),
    "a timestamp that is none": ("recipe", b"name: !!timestamp x\n"),
    "a whole number that is none": ("recipe", b"name: !!int x\n"),
    "a truth that is none": ("recipe", b"name: !!bool 7\n"),
    "a number of thousands of digits": ("recipe", b"name: " + b"9" * 5000),
    "bytes": ("recipe", PLAIN + b"model: {name: knn, x: !!binary aGk=}\n"),
    "a set": ("recipe", PLAIN + b"model: {name: knn, x: !!set {a, b}}\n"),
    "names of two kinds": ("recipe", PLAIN + b"model: {name: knn, 1: a, b: c}\n"),
    "a name that is nothing": ("recipe", PLAIN + b"model: {name: knn, ~: a, b: c}\n"),
    "an infinite rate": ("recipe", PLAIN + b"model: {name: mlp}\n" + NETWORK % b".inf"),
    "a number as what it extends": ("recipe", b"extends: 5\n"),
    "a list as what it extends": ("recipe", b"extends: [knn]\n"),
    "an unknown recipe to extend": ("recipe", b"extends: nothing\n"),
    "a line break in a setting": ("recipe", b'extends: knn\n"a\\nb": 1\n'),
    "a value that stands for billions": ("recipe", b"extends: knn\nabout: x\n" + BOMB),
    "a value that holds itself": ("recipe", b"extends: knn\nsearch: &a {x: [*a]}\n"),
    "a recipe that is none": ("study", b"recipes: [null]\n"),
    "a protocol that is none": ("study", b"recipes: [knn]\nprotocols: [x]\n"),
    "seeds without end": ("study", b"recipes: [knn]\nseeds: 1000000000000\n"),
    "thousands of digits in TOML": ("taxonomy", b"whitelist = " + b"9" * 5000),
    "a short line, with the columns in another order": (
        "plan",
        b"# genrescope tag plan, format 1\n# library: /m\npath,new,stamp,action\na.mp3,Rock\n",
    ),
    "a path of thousands of letters": ("csv", b"path,genre\n" + b"x" * 5000 + b",rock\n"),
    "a path with a line break": ("csv", b'path,genre\n"c\nd.wav",rock\n'),
    "a genre with a line break": ("csv", b'path,genre\na.wav,"ro\nck"\n'),
}


@pytest.mark.parametrize("which", REFUSED)
def test_it_is_refused_in_one_line(which: str) -> None:
    name, content = REFUSED[which]
    assert not check(TARGETS[name], content)


def test_names_in_a_network_that_are_not_utf_8_are_reported(
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = network_seed()
    assert check(TARGETS["network"], whole)
    assert not check(TARGETS["network"], whole.replace(b"batch", b"b\x80tch"))
    assert not check(TARGETS["network"], whole.replace(b"Relu", b"Re\x80u"))
    assert capfd.readouterr() == ("", "")  # ONNX Runtime has something to say otherwise


ROWS = [
    ("journal", "UPDATE plans SET file = x'00'"),
    ("journal", "UPDATE plans SET file = x'41'"),
    ("journal", "UPDATE steps SET old = '['"),
    ("journal", "UPDATE steps SET new = '5'"),
    ("journal", "UPDATE steps SET new = '[[]]'"),
    ("journal", "UPDATE steps SET old = x'ff'"),
    ("journal", "UPDATE steps SET state = x'ff'"),
    ("journal", "UPDATE steps SET patch = 'text'"),
    ("catalogue", "UPDATE tracks SET confidence = 'x'"),
    ("catalogue", "UPDATE tracks SET confidence = 7.5"),
    ("catalogue", "UPDATE tracks SET probabilities = x'ffffff'"),
    ("catalogue", "UPDATE tracks SET probabilities = 'text'"),
    ("catalogue", "UPDATE tracks SET probabilities = x'007c'"),
    ("catalogue", "UPDATE tracks SET model = 99"),
    ("catalogue", "UPDATE tracks SET genre = 'x'"),
    ("catalogue", "UPDATE tracks SET genre = 99"),
    ("catalogue", "UPDATE tracks SET error = x'ff' WHERE error IS NOT NULL"),
    ("catalogue", "UPDATE tracks SET size = 'x'"),
    ("catalogue", "UPDATE tracks SET warnings = 'text'"),
    ("catalogue", "UPDATE tracks SET warnings = '{}'"),
    ("catalogue", "UPDATE tracks SET warnings = '[1]'"),
    ("catalogue", "UPDATE tracks SET warnings = x'ff'"),
    ("catalogue", "UPDATE tracks SET fingerprint = 'x'"),
    ("catalogue", "UPDATE folders SET path = 0.5"),
    ("catalogue", "UPDATE folders SET walk = ''"),
    ("catalogue", "UPDATE tracks SET embedding = 'abcd'"),
    ("catalogue", "UPDATE tracks SET embedding = x'00'"),
    ("catalogue", "UPDATE tracks SET embedding = x'003c'"),
    ("catalogue", "UPDATE tracks SET embedding = x'007c007e'"),
    ("catalogue", "UPDATE models SET genres = '[1, 2]'"),
    ("catalogue", "UPDATE models SET genres = '\"ab\"'"),
]


@pytest.mark.parametrize(("name", "statement"), ROWS)
def test_rows_that_nobody_wrote_are_reported_as_damage(
    name: str, statement: str, tmp_path: Path
) -> None:
    (whole,) = TARGETS[name].seeds()
    path = tmp_path / TARGETS[name].file
    path.write_bytes(whole)
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement).rowcount > 0
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with pytest.raises(InputError, match=f"{path.name}: it is damaged"):
        TARGETS[name].open(path)


@pytest.mark.parametrize("name", ["journal", "catalogue"])
def test_rows_in_an_order_that_leads_back_end(name: str) -> None:
    """Turn round the order of the rows on every page of the tables, so that their numbers fall."""
    content = bytearray(TARGETS[name].seeds()[0])
    size = int.from_bytes(content[16:18], "big")
    for start in range(0, len(content), size):
        at = start or 100  # the file's header is on the first page
        count = int.from_bytes(content[at + 3 : at + 5], "big")
        if start and content[at] == 13:  # a leaf of a table, but for the schema's
            cells = bytes(content[at + 8 : at + 8 + 2 * count])
            turned = [cells[i : i + 2] for i in range(0, len(cells), 2)][::-1]
            content[at + 8 : at + 8 + 2 * count] = b"".join(turned)
    assert not check(TARGETS[name], bytes(content))
