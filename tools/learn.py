"""Measure `genrescope learn` on libraries simulated from real GTZAN.

    python tools/learn.py --data /path/to/gtzan     # the tables of docs/learn.md
    python tools/learn.py --tracks 100000           # time and memory, on random embeddings
    python tools/learn.py --files 10000             # time of the whole command, on such files
    python tools/learn.py --data /path/to/gtzan --pool  # tracks alone against albums and artists

A simulated library has so many tracks of each genre by so many artists; models are tested on the
tracks of all other artists. Artists with too few tracks are drawn all the same, as long as two
artists of the genre are left to test on, so some libraries are smaller than asked for: the mean
number of tracks is in the table. "default's head" is the discriminant of the default recipe, fitted
on the same embeddings.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from mutagen.flac import FLAC
from numpy.typing import NDArray

import genrescope
from genrescope.audio import load
from genrescope.datasets.open import open_dataset
from genrescope.datasets.track import Track
from genrescope.learn.discriminant import (
    Discriminant,
    calibrate,
    held_out_scores,
    measure_moments,
    signed_log,
    track_shares,
)
from genrescope.learn.folds import artist_folds
from genrescope.learn.learn import LearnedModel, TaggedTracks, learn
from genrescope.library.catalogue import Catalogue, CatalogueEntry
from genrescope.models.classical import fit_estimator
from genrescope.representations.store import Store
from genrescope.study.statistics import expected_calibration_error
from genrescope.tagging.albums import Groups
from genrescope.tagging.evidence import WEIGHTS, Evidence, Weights, weigh
from genrescope.tagging.policy import AlbumVote
from genrescope.taxonomy import load_taxonomy
from genrescope.training.recipe import load_recipe

TAXONOMY = load_taxonomy()
DRAWS = 5
SHOWN = 50  # doubts
SHRINKAGE = 0.6  # as the recipe `audio`
SPLITS = 20  # of the artists
MIN_POOLED = 3  # tracks of an artist
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Music:
    """Embeddings float16 (tracks, columns), labels and artists (tracks,), names of genres."""

    rows: NDArray[np.float16]
    labels: Indices
    artists: Indices
    genres: tuple[str, ...]


def main() -> None:
    """Run what was asked."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, help="GTZAN, in any layout")
    options.add_argument("--store", type=Path, help="folder of representations")
    options.add_argument("--tracks", type=int, help="random embeddings to learn from")
    options.add_argument("--files", type=int, help="tagged files to run the command on")
    options.add_argument("--pool", action="store_true", help="with --data: only what tracks share")
    given = options.parse_args()
    if given.data is not None and given.pool:
        for table in pooled(read_music(given.data, given.store)):
            print("\n".join(table), end="\n\n", flush=True)
    elif given.data is not None:
        music = read_music(given.data, given.store)
        thirds = read_thirds(given.data)
        for table in (
            sizes(music),
            wrong_tags(music, thirds),
            two_genres(music),
            rare_genre(music),
        ):
            print("\n".join(table), end="\n\n", flush=True)
    if given.tracks is not None:
        print(scale(given.tracks))
    if given.files is not None:
        print(whole_command(given.files))


def read_music(data: Path, store: Path | None) -> Music:
    """Embed every track that has audio."""
    representation = genrescope.load().representation.embedder
    tracks = [track for track in open_dataset(data).tracks if track.audio is not None]
    stored = Store(store).collect(representation, tracks)
    track_of = {track.id: track for track in tracks}
    rows = representation.unpack(stored.packed).astype(np.float16)
    return labelled(rows, [track_of[name] for name in stored.ids])


def read_thirds(data: Path) -> Music:
    """Embed the three thirds of every track's audio, each as a track of its own."""
    classifier = genrescope.load()
    sampling_rate = classifier.representation.sampling_rate
    rows, used = [], []
    for track in open_dataset(data).tracks:
        if track.audio is None:
            continue
        try:
            waveform, _ = load(track.audio, sampling_rate)
            parts = np.array_split(waveform, 3)
            rows += [classifier.analyse(part, sampling_rate)[1] for part in parts]
        except genrescope.GenrescopeError:  # the data set has a file without audio
            continue
        used += [track] * 3
    return labelled(np.array(rows), used)


def labelled(rows: NDArray[np.float16], used: list[Track]) -> Music:
    """Add the labels and artists of tracks; one of an unknown artist counts as an artist."""
    genres = [str(TAXONOMY.canonical(track.genre)) for track in used]
    names, labels = np.unique(genres, return_inverse=True)
    _, artists = np.unique([track.group or f"? {track.id}" for track in used], return_inverse=True)
    return Music(rows, labels, artists, tuple(names.tolist()))


def drawn_library(
    music: Music, tracks: int, artists: int, rng: np.random.Generator, rare: int | None = None
) -> tuple[Indices, Indices]:
    """Draw a library; give its tracks, and those of all other artists.

    Parameters
    ----------
    music
        All tracks.
    tracks, artists
        Of each genre.
    rng
        Random choices.
    rare
        Number of tracks of the first genre, if they are fewer.
    """
    chosen: list[int] = []
    taken: set[int] = set()
    for label in range(len(music.genres)):
        own = np.flatnonzero(music.labels == label)
        by = rng.permutation(np.unique(music.artists[own]))
        # Those of most tracks are preferred where the library would be too small without them.
        some = by[: max(2, min(artists, len(by) - 2))]
        wanted = rare if rare is not None and label == 0 else tracks
        counts = Counter(music.artists[own].tolist())
        for artist in sorted(by.tolist(), key=lambda one: -counts[one])[: len(some)]:
            if sum(counts[one] for one in some.tolist()) >= wanted or artist in some:
                continue
            some[np.argmin([counts[one] for one in some.tolist()])] = artist
        # In turns, so that the artists' shares are as even as they can be.
        queues = [rng.permutation(own[music.artists[own] == artist]).tolist() for artist in some]
        picked: list[int] = []
        while len(picked) < wanted and any(queues):
            picked += [queue.pop() for queue in queues if queue][: wanted - len(picked)]
        chosen += picked
        taken |= set(some.tolist())
    others = np.flatnonzero(~np.isin(music.artists, list(taken)))
    return np.array(chosen), others


def learned_from(
    music: Music, used: Indices, genres: list[tuple[str, ...]], rows: Any = None
) -> LearnedModel:
    """Learn from tracks with these genres."""
    own = music.rows[used] if rows is None else rows
    names = [str(i) for i in range(len(used))]
    _, artists = np.unique(music.artists[used], return_inverse=True)
    tagged = TaggedTracks(names, genres, artists, own, len(used), [])
    return learn(tagged, TAXONOMY, min_tracks=2, min_artists=2)


def logits_of(discriminant: Discriminant, rows: NDArray[Any]) -> NDArray[np.float64]:
    """Logits of embeddings."""
    return np.asarray(signed_log(rows) @ discriminant.weight.T + discriminant.bias)


def answers(learned: LearnedModel, music: Music, rows: NDArray[Any]) -> Indices:
    """First genres of embeddings, as labels."""
    places = np.array([music.genres.index(genre) for genre in learned.genres])
    return places[logits_of(learned.discriminant, rows).argmax(axis=1)]


def head_answers(music: Music, used: Indices, labels: Indices, rows: NDArray[Any]) -> Indices:
    """As ``answers``, of the default recipe's own head."""
    settings = {"shrinkage": 0.6, "group_weight": 0.5}
    model = load_recipe("default").model
    if model is not None and model.name == "lda":
        settings = model.parameters
    _, groups = np.unique(music.artists[used], return_inverse=True)
    fitted = fit_estimator(
        "lda", signed_log(music.rows[used]), labels, len(music.genres), 0, settings, groups
    )
    with torch.inference_mode():
        return fitted(torch.from_numpy(signed_log(rows))).numpy().argmax(axis=1)


def macro(found: Indices, truth: Indices) -> float:
    """Mean recall of the genres."""
    return float(np.mean([(found[truth == label] == label).mean() for label in np.unique(truth)]))


def tags(music: Music, labels: Indices) -> list[tuple[str, ...]]:
    """One genre a track."""
    return [(music.genres[label],) for label in labels]


def sizes(music: Music) -> list[str]:
    """Accuracy by tracks and artists of a genre."""
    lines = [
        "| tracks a genre | artists | got | learn | own estimate | default's head | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for count in (5, 10, 20, 50):
        for by in (2, 4, 8):
            found = []
            for seed in range(DRAWS):
                used, others = drawn_library(music, count, by, np.random.default_rng(seed))
                labels, truth, rows = music.labels[used], music.labels[others], music.rows[others]
                learned = learned_from(music, used, tags(music, labels))
                found.append(
                    (
                        len(used) / len(music.genres),
                        macro(answers(learned, music, rows), truth),
                        learned.measured.accuracy,
                        macro(head_answers(music, used, labels, rows), truth),
                    )
                )
            got, ours, own, head = np.mean(found, axis=0)
            deviation = np.std([one[1] - one[3] for one in found])
            lines.append(
                f"| {count} | {by} | {got:.1f} | {ours:.3f} | {own:.3f} | {head:.3f} | "
                f"{ours - head:+.3f} ± {deviation:.3f} |"
            )
    return lines


def wrong_tags(every: Music, thirds: Music) -> list[str]:
    """Accuracy and doubts where some tags are wrong."""
    lines = [
        "| library | wrong tags | learn | default's head | wrong among the first 50 doubts | "
        "as many as are wrong |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, music, drawn in (
        ("20 a genre by 8 artists", every, True),
        ("all", every, False),
        ("thirds of all", thirds, False),
    ):
        for share in (0.0, 0.1, 0.2):
            found = []
            for seed in range(DRAWS):
                rng = np.random.default_rng(seed)
                used, others = np.arange(len(music.labels)), np.arange(0)
                if drawn:
                    used, others = drawn_library(music, 20, 8, rng)
                labels = music.labels[used].copy()
                wrong = rng.permutation(len(used))[: round(share * len(used))]
                shift = rng.integers(1, len(music.genres), len(wrong))
                labels[wrong] = (labels[wrong] + shift) % len(music.genres)
                learned = learned_from(music, used, tags(music, labels))
                order = [int(one.path) for one in learned.doubts]
                hits = [
                    float(np.isin(order[:n], wrong).sum() / n) if n else np.nan
                    for n in (SHOWN, len(wrong))
                ]
                truth, rows = music.labels[others], music.rows[others]
                scores = (np.nan, np.nan)
                if len(others):
                    head = head_answers(music, used, labels, rows)
                    scores = macro(answers(learned, music, rows), truth), macro(head, truth)
                found.append((len(used), *scores, *hits))
            size, ours, head_mean, at, even = np.mean(found, axis=0)
            cells = ["–" if np.isnan(one) else f"{one:.3f}" for one in (ours, head_mean, at, even)]
            lines.append(f"| {name}: {size:.0f} tracks | {share:.0%} | {' | '.join(cells)} |")
    return lines


def two_genres(music: Music) -> list[str]:
    """Tracks of two genres: the mean of two embeddings, as a track of two equal parts has."""
    lines = [
        "| tracks with two genres | both are the first two | one of them is the first | "
        "of the others, the first is right |",
        "| --- | --- | --- | --- |",
    ]
    for share in (0.25, 0.5, 1.0):
        found = []
        for seed in range(DRAWS):
            rng = np.random.default_rng(seed)
            used, others = drawn_library(music, 20, 8, rng)
            rows, pairs = mixed(music, used, share, rng)
            genres = [tuple(dict.fromkeys(music.genres[k] for k in pair)) for pair in pairs]
            learned = learned_from(music, used, genres, rows)
            places = np.array([music.genres.index(genre) for genre in learned.genres])

            tested, truth = mixed(music, others, 1.0, rng)
            ranked = places[np.argsort(-logits_of(learned.discriminant, tested), axis=1)]
            both = [set(own[:2]) == set(pair) for own, pair in zip(ranked, truth, strict=True)]
            one = [own[0] in pair for own, pair in zip(ranked, truth, strict=True)]
            plain = macro(answers(learned, music, music.rows[others]), music.labels[others])
            found.append((float(np.mean(both)), float(np.mean(one)), float(plain)))
        cells = " | ".join(f"{value:.3f}" for value in np.mean(found, axis=0))
        lines.append(f"| {share:.0%} | {cells} |")
    return lines


def mixed(
    music: Music, used: Indices, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.float16], list[tuple[int, ...]]]:
    """Mix a share of tracks with others of the same ones, of another genre."""
    rows, pairs = music.rows[used].copy(), [(int(k), int(k)) for k in music.labels[used]]
    for i in rng.permutation(len(used))[: round(share * len(used))]:
        other = rng.choice(used[music.labels[used] != music.labels[used[i]]])
        both = music.rows[[used[i], other]].astype(np.float32)
        rows[i] = both.mean(axis=0)
        pairs[i] = (pairs[i][0], int(music.labels[other]))
    return rows, [tuple(pair) for pair in pairs]


def rare_genre(music: Music) -> list[str]:
    """One genre is 3 % of the library, each genre in turn."""
    found: list[tuple[float, ...]] = []
    for label in range(len(music.genres)):
        # The genre that is rare is the first.
        order = np.roll(np.arange(len(music.genres)), -label)
        turned = Music(
            music.rows,
            np.argsort(order)[music.labels],
            music.artists,
            tuple(music.genres[k] for k in order),
        )
        used, others = drawn_library(turned, 20, 8, np.random.default_rng(label), rare=6)
        labels, truth, rows = turned.labels[used], turned.labels[others], turned.rows[others]
        learned = learned_from(turned, used, tags(turned, labels))
        row = [float((labels == 0).mean())]
        for made in (
            answers(learned, turned, rows),
            head_answers(turned, used, labels, rows),
        ):
            right = ((made == 0) & (truth == 0)).sum()
            row += [
                float(right / (truth == 0).sum()),
                float(right / max((made == 0).sum(), 1)),
                macro(made, truth),
            ]
        found.append(tuple(row))
    mean = np.mean(found, axis=0)
    lines = [
        "| share | model | recall of the rare genre | its precision | macro accuracy |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, part in (("learn", mean[1:4]), ("default's head", mean[4:])):
        lines.append(f"| {mean[0]:.1%} | {name} | " + " | ".join(f"{v:.3f}" for v in part) + " |")
    return lines


def pooled(music: Music) -> list[list[str]]:
    """Tracks of artists with three or more, alone and pooled, by models without these artists."""
    probabilities = held_out(music)
    counts = np.bincount(music.artists)
    used = np.flatnonzero(counts[music.artists] >= MIN_POOLED)
    shares, labels = probabilities[used], music.labels[used]
    _, artists = np.unique(music.artists[used], return_inverse=True)
    lines = [
        f"| library of {len(used)} tracks by {artists.max() + 1} artists | `--album` | alone | "
        "pooled | gain | ECE alone | ECE pooled | tracks whose album agrees |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    draws = [simulated(artists, labels, np.random.default_rng(seed)) for seed in range(DRAWS)]
    for name in draws[0]:
        for vote in (AlbumVote.AGREE, AlbumVote.VOTE):
            found = [compared(shares, labels, draw[name], vote) for draw in draws]
            alone, together, before, after, agree = np.mean(found, axis=0)
            lines.append(
                f"| {name} | {vote} | {alone:.3f} | {together:.3f} | {together - alone:+.3f} | "
                f"{before:.3f} | {after:.3f} | {agree:.0%} |"
            )
    by_weight = [
        "| correlation | cross-entropy | ECE | mean confidence | accuracy |",
        "| --- | --- | --- | --- | --- |",
    ]
    groups = draws[0]["an artist has one album"]
    for correlation in (0.0, 0.1, 0.25, 0.5, 1.0):
        weights = replace(WEIGHTS, correlation=correlation)
        weighed = evidence(shares, groups, AlbumVote.VOTE, weights).posterior
        loss = -np.log(weighed[np.arange(len(labels)), labels]).mean()
        right, sure = weighed.argmax(axis=1) == labels, weighed.max(axis=1)
        error = expected_calibration_error(sure, right)
        by_weight.append(
            f"| {correlation} | {loss:.3f} | {error:.3f} | {sure.mean():.3f} | {right.mean():.3f} |"
        )
    return [lines, by_weight, tuned_on_half(shares, labels, artists)]


def tuned_on_half(shares: NDArray[np.float32], labels: Indices, artists: Indices) -> list[str]:
    """Weights chosen by half of the artists, at random, and measured on the other half."""
    grid = [
        replace(WEIGHTS, correlation=correlation, agreement=agreement)
        for correlation in (0.1, 0.25, 0.5, 1.0)
        for agreement in (0.2, 0.3, 0.4, 0.5)
    ]
    groups = simulated(artists, labels, np.random.default_rng(0))["an artist has one album"]
    found = []
    for seed in range(SPLITS):
        chosen = np.random.default_rng(seed).random(artists.max() + 1) < 0.5
        losses, rows = [], []
        for weights in grid:
            weighed = evidence(shares, groups, AlbumVote.AGREE, weights).posterior
            own, rest = chosen[artists], ~chosen[artists]
            losses.append(-np.log(weighed[own, labels[own]]).mean())
            right, sure = weighed[rest].argmax(axis=1) == labels[rest], weighed[rest].max(axis=1)
            rows.append((right.mean(), sure.mean(), expected_calibration_error(sure, right)))
        best = int(np.argmin(losses))
        alone = (shares[rest].argmax(axis=1) == labels[rest]).mean()
        found.append((grid[best].correlation, grid[best].agreement, alone, *rows[best]))
    cells = " | ".join(f"{value:.3f}" for value in np.mean(found, axis=0))
    return [
        "| correlation | agreement | alone | pooled | mean confidence | ECE pooled |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| {cells} |",
    ]


def held_out(music: Music) -> NDArray[np.float32]:
    """Calibrated probabilities of every track, by a model that was not given its artist."""
    member = np.eye(len(music.genres), dtype=bool)[music.labels]
    folds = artist_folds(member, music.artists)
    weights = np.bincount(music.artists)[music.artists].astype(np.float64) ** -0.5
    moments = measure_moments(music.rows, track_shares(member), weights, folds)
    scores = held_out_scores(music.rows, moments, folds, SHRINKAGE)
    found = np.empty_like(scores)
    for fold in np.unique(folds):
        own = folds == fold
        found[own] = calibrate(scores[~own], member[~own]).probabilities(scores[own])
    return found


def simulated(artists: Indices, labels: Indices, rng: np.random.Generator) -> dict[str, Groups]:
    """Distribute tracks over albums and artists, as real libraries do or should not."""
    order = rng.permutation(len(artists))
    halves, folders = np.empty_like(artists), order // 12
    for artist in np.unique(artists):
        own = order[artists[order] == artist]
        halves[own] = np.arange(len(own)) % 2
    genre_of = dict(zip(artists.tolist(), labels.tolist(), strict=True))
    left, merged = rng.permutation(np.unique(artists)).tolist(), dict[int, int]()
    while left:
        one = left.pop()
        other = next((k for k in left if genre_of[k] != genre_of[one]), one)
        merged[one] = merged[other] = one
        left = [k for k in left if k != other]
    both = np.array([merged[artist] for artist in artists.tolist()])
    none = np.zeros(len(artists), dtype=bool)

    def groups(albums: Indices, by: Indices) -> Groups:
        _, on = np.unique(albums, return_inverse=True)
        return Groups(on, np.unique(by, return_inverse=True)[1], none)

    return {
        "an artist has one album": groups(artists, artists),
        "an artist has two albums": groups(2 * artists + halves, artists),
        "an artist has single tracks": groups(np.arange(len(artists)), artists),
        "an artist of two genres has an album of each": groups(artists, both),
        "an artist of two genres has one album": groups(both, both),
        "folders of 12 tracks at random": groups(folders, folders),
    }


def evidence(
    shares: NDArray[np.float32], groups: Groups, vote: AlbumVote, weights: Weights = WEIGHTS
) -> Evidence:
    """Weigh probabilities as `tag plan` does, without tags."""
    none = np.zeros(len(shares), dtype=bool)
    return weigh(shares, none, np.zeros(shares.shape), groups, vote, weights)


def compared(
    shares: NDArray[np.float32], labels: Indices, groups: Groups, vote: AlbumVote
) -> tuple[float, ...]:
    """Accuracies and calibration errors alone and pooled, and the share of tracks that agree."""
    found = evidence(shares, groups, vote)
    row = []
    for each in (shares, found.posterior):
        right = each.argmax(axis=1) == labels
        row.append((right.mean(), expected_calibration_error(each.max(axis=1), right)))
    (alone, before), (together, after) = row
    return alone, together, before, after, found.agree.mean()


def scale(tracks: int, genres: int = 30, width: int = 772) -> str:
    """Learn from random embeddings; give seconds and memory."""
    rng = np.random.default_rng(0)
    names = [name for name in TAXONOMY.spellings.values() if not TAXONOMY.ancestors(name)][:genres]
    weights = 1 / (1 + np.arange(len(names)))
    labels = rng.choice(len(names), tracks, p=weights / weights.sum())
    points = rng.standard_normal((len(names), width), dtype=np.float32)
    rows = np.empty((tracks, width), dtype=np.float16)
    for start in range(0, tracks, 4096):
        own = labels[start : start + 4096]
        rows[start : start + 4096] = 0.1 * points[own] + rng.standard_normal((len(own), width))
    artists = rng.integers(0, max(tracks // 12, 2), tracks)
    _, artists = np.unique(artists, return_inverse=True)
    genres_of: list[tuple[str, ...]] = [(str(names[k]),) for k in labels]
    tagged = TaggedTracks(
        [f"{i}.flac" for i in range(tracks)], genres_of, artists, rows, tracks, []
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begun = time.monotonic()
    learned = learn(tagged, TAXONOMY)
    seconds = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {tracks:,} | {len(learned.genres)} | {seconds:.0f} s | {rows.nbytes / 2**20:.0f} MiB | "
        f"{peak - before:.0f} MiB |"
    )


def whole_command(files: int) -> str:
    """Run the command on a folder of tagged FLAC files, with random embeddings."""
    classifier = genrescope.load()
    rng = np.random.default_rng(0)
    genres = ["Rock", "Jazz", "Reggae", "Techno", "Folk"]
    points = rng.standard_normal((len(genres), classifier.embedding_width))
    answer = genrescope.Prediction(
        classifier.genres[0], 1.0, False, {classifier.genres[0]: 1.0}, {}
    )
    with tempfile.TemporaryDirectory() as scratch:
        music = Path(scratch).resolve() / "music"
        with Catalogue(music.parent / "library.db", write=True) as catalogue:
            model, walk = catalogue.model(classifier), catalogue.begin_walk()
            for start in range(0, files, 12):  # an album
                own = music / str(start)
                own.mkdir(parents=True)
                first = own / "0.flac"
                soundfile.write(first, np.zeros(8000), 8000)
                flac = FLAC(first)
                flac["genre"] = [genres[start // 12 % len(genres)]]
                flac["artist"] = [f"artist {start // 36}"]
                flac.save()
                for i in range(1, min(12, files - start)):
                    os.link(first, own / f"{i}.flac")
                stats = [(path.name, path.stat()) for path in sorted(own.iterdir())]
                entries = [CatalogueEntry(name, s.st_size, s.st_mtime_ns) for name, s in stats]
                catalogue.see(str(own), entries, walk)
            for waiting in list(catalogue.waiting(str(music), model)):
                point = points[int(waiting.path.parent.name) // 12 % len(genres)]
                row = (0.1 * point + rng.standard_normal(len(point))).astype(np.float16)
                stat = waiting.path.stat()
                catalogue.save(waiting.row, stat, waiting.row.to_bytes(16), model, (answer, row))
        command = [sys.executable, "-m", "genrescope", "learn", str(music)]
        begun = time.monotonic()
        place = ["--db", str(music.parent / "library.db"), "--out", str(music.parent / "model")]
        subprocess.run([*command, *place], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        return f"{files:,} files: {time.monotonic() - begun:.0f} s"


if __name__ == "__main__":
    main()
