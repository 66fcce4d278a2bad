"""What the formats use of mutagen beyond its documented interface is in one place, and is there."""

import ast
import io
import re
import tomllib
from pathlib import Path

import mutagen
import pytest
from mutagen.asf import ASFUnicodeAttribute
from mutagen.id3 import ID3, TIT2
from mutagen.mp4 import MP4Tags

import genrescope.tagging.formats
from genrescope.tagging.formats import internals

FOLDER = Path(genrescope.tagging.formats.__file__).parent
OTHERS = sorted(path for path in FOLDER.glob("*.py") if path.name != "internals.py")


def private_names(path: Path) -> set[str]:
    """Names with _ in front: imported from mutagen, or attributes of anything but self and cls."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mutagen"):
            found |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") not in {
            "self",
            "cls",
        }:
            found.add(node.attr)
    return {name for name in found if re.match(r"_(?!_)", name)}


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_other_files_use_no_private_name_of_mutagen(path: Path) -> None:
    assert not private_names(path)
    assert "_failed_atoms" not in path.read_text(encoding="utf-8")  # of self, in a subclass


def test_the_installed_mutagen_is_below_the_cap() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    (needed,) = (d for d in project["project"]["dependencies"] if d.startswith("mutagen"))
    cap = re.search(r"<(\d+)\.(\d+)$", needed)
    assert cap is not None
    assert mutagen.version[:2] < tuple(map(int, cap.groups()))


def test_frames_stay_bytes_and_the_tag_says_its_flags_and_padding() -> None:
    buffer = io.BytesIO()
    tags = ID3()
    tags.add(TIT2(encoding=3, text="Song"))
    tags.save(buffer, padding=lambda _: 7)
    buffer.seek(0)
    opaque = ID3(buffer, known_frames={"TIT2": internals.OpaqueFrame}, translate=False)
    (frame,) = opaque.unknown_frames
    assert frame.startswith(b"TIT2")
    assert frame.endswith(b"Song\0")
    assert (internals.id3_flags(opaque), internals.id3_padding(opaque)) == (0, 7)
    assert internals.id3_flags(ID3()) == 0


def test_unsynchronisation_is_undone() -> None:
    assert internals.undo_unsynchronisation(b"a\xff\x00b") == b"a\xffb"
    with pytest.raises(ValueError, match="sync"):
        internals.undo_unsynchronisation(b"\xff\xff\x00")


def test_a_file_is_resized_in_the_middle() -> None:
    file = io.BytesIO(b"headTAGtail")
    internals.resize_bytes(file, 3, 5, 4)
    assert len(file.getvalue()) == 13
    assert file.getvalue().endswith(b"tail")
    internals.resize_bytes(file, 5, 1, 4)
    assert len(file.getvalue()) == 9


def test_attributes_and_atoms_are_bytes() -> None:
    assert internals.asf_attribute(ASFUnicodeAttribute("é")) == "é\0".encode("utf-16-le")
    assert len(internals.ASF_TAG_OBJECTS) == 6
    assert {len(guid) for guid in internals.ASF_TAG_OBJECTS} == {16}
    assert internals.unparsed_atoms(MP4Tags()) == {}


def test_chunks_tags_and_atoms_are_found() -> None:
    assert issubclass(internals.AiffId3, ID3)
    assert issubclass(internals.WaveId3, ID3)
    assert {"__contains__", "__getitem__", "insert_chunk"} <= {*dir(internals.WaveFile)}
    data = internals.ApeData(io.BytesIO(b"no tag here" * 9))
    assert (data.tag, data.metadata, data.items) == (None, None, None)
    atoms = internals.Atoms(io.BytesIO(b"\0\0\0\x08free"))
    assert [(atom.name, atom.offset, atom.length) for atom in atoms.atoms] == [(b"free", 0, 8)]
