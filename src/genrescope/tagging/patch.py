"""Small patches that restore a file as it was before its tags changed.

A patch holds what surrounds the audio of the old file, compressed against what surrounds the audio
of the new one, so that an unchanged picture takes no space. The audio is read from the new file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import zstandard

from genrescope.audio.ranges import Ranges, audio_ranges, blocks
from genrescope.errors import GenrescopeError, InputError
from genrescope.system import sync_descriptor

_VERSION = 1
_HEAD = struct.Struct("<B32s32sQQQ")  # version, digests of old and new, sizes as below
_LEVEL = 9


def make_patch(old: Path, new: Path) -> bytes:
    """Build a patch from a new file to an old one of the same audio.

    Memory holds what surrounds the audio of both files, and one block of the audio.

    Parameters
    ----------
    old
        The file before the change.
    new
        The file with other tags; `rebuild` needs exactly this one.

    Returns
    -------
    patch
        Some hundred bytes if only a genre changed.

    Raises
    ------
    InputError
        If one of the files cannot be read or its structure is broken.
    ValueError
        If their audio is not the same.
    """
    old_ranges, new_ranges = audio_ranges(old), audio_ranges(new)
    old_digest, old_audio = _digests(old, old_ranges)
    new_digest, new_audio = _digests(new, new_ranges)
    if old_audio != new_audio:
        raise ValueError(f"{old} and {new} do not hold the same audio")
    ranges = _packed(old_ranges)
    frame = _frame(old, old_ranges)
    whole = ranges + frame
    reference = _reference(new, new_ranges)
    compressed = _compressor(reference, len(whole)).compress(whole)
    sizes = (len(ranges), len(whole), len(reference))
    return _HEAD.pack(_VERSION, old_digest, new_digest, *sizes) + compressed


def rebuild(new: Path, patch: bytes, out: Path) -> None:
    """Write the old file, byte for byte as it was.

    Parameters
    ----------
    new
        The file that the patch was built from.
    patch
        From `make_patch`.
    out
        Path of the restored file; it does not exist after an error.

    Raises
    ------
    InputError
        If ``new`` is not the file that the patch was built from, or cannot be read, ``out`` cannot
        be written, or the patch is damaged.
    GenrescopeError
        If the patch has an unknown version.
    """
    try:
        _write(out, _checked(new, patch))
    except OSError as error:
        out.unlink(missing_ok=True)
        cause = f"it cannot be written ({error.strerror or error})"
        raise InputError(out, cause, "Check the free space and the permissions") from error
    except BaseException:
        out.unlink(missing_ok=True)
        raise


def check(new: Path, patch: bytes) -> None:
    """Check that `rebuild` would succeed, without writing.

    Parameters
    ----------
    new
        The file that the patch was built from.
    patch
        From `make_patch`.

    Raises
    ------
    InputError
        If the old file could not be rebuilt byte for byte.
    GenrescopeError
        If the patch has an unknown version.
    """
    for _ in _checked(new, patch):
        pass


def digest(path: Path) -> bytes:
    """Return the BLAKE2b digest of a whole file, bytes (32,), as in patches.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    seen = blake2b(digest_size=32)
    for block in blocks(path, [(0, _length(path))]):
        seen.update(block)
    return seen.digest()


def digests(patch: bytes) -> tuple[bytes, bytes]:
    """Return the digests of the two files of a patch.

    Returns
    -------
    old, new
        bytes (32,) each: the `digest` of the file before the change, and after it.

    Raises
    ------
    GenrescopeError
        If the patch has an unknown version.
    """
    if patch[:1] != bytes([_VERSION]) or len(patch) < _HEAD.size:
        raise GenrescopeError("This undo patch has an unknown version. Update genrescope.")
    _, old, new, *_ = _HEAD.unpack_from(patch)
    return old, new


def _write(out: Path, content: Iterator[bytes]) -> None:
    with out.open("wb") as file:
        for block in content:
            file.write(block)
        file.flush()
        sync_descriptor(file.fileno())


def _checked(new: Path, patch: bytes) -> Iterator[bytes]:
    """Yield the old file in blocks; it is verified when the last block has been read."""
    wanted, here = digests(patch)
    if digest(new) != here:
        cause = "it has changed since its genre was written"
        raise InputError(new, cause, "Undo the later changes first, or leave it unchanged")
    try:
        yield from _restored(new, patch, wanted)
    except _DamagedPatchError as error:
        cause = "its undo patch in the journal is damaged"
        raise InputError(new, cause, "Restore the file from a backup") from error


def _restored(new: Path, patch: bytes, wanted: bytes) -> Iterator[bytes]:
    ranges = audio_ranges(new)
    old_ranges, frame = _unpacked(patch, _reference(new, ranges))
    seen = blake2b(digest_size=32)
    for block in _assembled(new, ranges, old_ranges, frame):
        seen.update(block)
        yield block
    if seen.digest() != wanted:
        raise _DamagedPatchError


class _DamagedPatchError(Exception):
    """A patch whose content does not match its header."""


def _assembled(new: Path, new_ranges: Ranges, old_ranges: Ranges, frame: bytes) -> Iterator[bytes]:
    """Put the old frame around the audio of the new file."""
    audio = _Reader(blocks(new, new_ranges))
    at = gone = 0
    for start, stop in old_ranges:
        if not gone <= start <= stop:
            raise _DamagedPatchError
        gap = start - gone
        yield frame[at : at + gap]
        yield from audio.take(stop - start)
        at, gone = at + gap, stop
    yield frame[at:]


class _Reader:
    """Reads a given number of bytes from blocks."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._rest = memoryview(b"")

    def take(self, count: int) -> Iterator[bytes]:
        while count:
            if not self._rest:
                self._rest = memoryview(next(self._source, b""))
                if not self._rest:
                    raise _DamagedPatchError
            part, self._rest = self._rest[:count], self._rest[count:]
            count -= len(part)
            yield bytes(part)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        cause = f"it cannot be read ({error.strerror or error})"
        raise InputError(path, cause, "Check that it exists, and its permissions") from error


def _digests(path: Path, ranges: Ranges) -> tuple[bytes, bytes]:
    """Digest all of a file, and its audio, in one pass."""
    whole, audio = blake2b(digest_size=32), blake2b(digest_size=32)
    bounds = [0, *chain.from_iterable(ranges), _length(path)]
    for index, span in enumerate(pairwise(bounds)):
        for block in blocks(path, [span]):
            whole.update(block)
            if index % 2:
                audio.update(block)
    return whole.digest(), audio.digest()


def _frame(path: Path, ranges: Ranges) -> bytes:
    bounds = [0, *chain.from_iterable(ranges), _length(path)]
    around = [(bounds[i], bounds[i + 1]) for i in range(0, len(bounds), 2)]
    return b"".join(blocks(path, around))


def _reference(path: Path, ranges: Ranges) -> bytes:
    """Return the dictionary for the compression: ranges and frame, as in a patch."""
    return _packed(ranges) + _frame(path, ranges)


def _packed(ranges: Ranges) -> bytes:
    """Encode ranges as differences between their bounds, which repeat from page to page."""
    bounds = np.array(list(chain.from_iterable(ranges)), np.uint64)
    return np.diff(bounds, prepend=np.uint64(0)).astype("<u8").tobytes()


def _unpacked(patch: bytes, reference: bytes) -> tuple[Ranges, bytes]:
    _, _, _, ranges_size, whole_size, reference_size = _HEAD.unpack_from(patch)
    if reference_size != len(reference):
        raise _DamagedPatchError
    try:
        # The sizes in a damaged patch must not be trusted for allocation.
        claimed = zstandard.get_frame_parameters(patch[_HEAD.size :])
        max_window = max(2**18, 4 * (len(reference) + whole_size))
        if claimed.content_size != whole_size or claimed.window_size > max_window:
            raise _DamagedPatchError
        dictionary = _dictionary(reference)
        decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=2**31)
        whole = decompressor.decompress(patch[_HEAD.size :])
    except zstandard.ZstdError as error:
        raise _DamagedPatchError from error
    if len(whole) != whole_size or not ranges_size <= whole_size or ranges_size % 16:
        raise _DamagedPatchError
    bounds = np.cumsum(np.frombuffer(whole[:ranges_size], "<u8")).tolist()
    return list(zip(bounds[::2], bounds[1::2], strict=True)), whole[ranges_size:]


def _dictionary(reference: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(reference, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _compressor(reference: bytes, size: int) -> zstandard.ZstdCompressor:
    # The tables must cover the whole reference, or large pictures are not found in it.
    log_size = max(17, min(len(reference).bit_length(), 26))
    settings = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        window_log=max(17, min((len(reference) + size).bit_length(), zstandard.WINDOWLOG_MAX)),
        hash_log=log_size,
        chain_log=20,
        strategy=zstandard.STRATEGY_GREEDY,
        write_content_size=True,
        write_checksum=True,
    )
    return zstandard.ZstdCompressor(dict_data=_dictionary(reference), compression_params=settings)
