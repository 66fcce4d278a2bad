"""Plan the classification of millions of tracks: measure this machine, then simulate a cluster.

    python tools/cluster_plan.py --write docs/cluster.md

Measured: the processor time of analysing tracks, its share of decoding, the bytes of a track, how
quickly files are listed, and what two real Ray clusters on this machine make of a folder. Assumed,
and to be replaced with your own: prices, networks and distances, all of them options. Takes about
two minutes. Rewrites the tables of the page between their markers and the figure beside it;
without --write, prints them; with --json, prints all figures as JSON.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from logging import ERROR
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import av
import numpy as np
import ray
import soundfile
from matplotlib.figure import Figure
from numpy.typing import NDArray

import genrescope
from genrescope.audio import excerpts, load, resample
from genrescope.cluster.lists import part_sizes
from genrescope.cluster.parts import prepare
from genrescope.cluster.run import classify_parts

Samples = NDArray[np.float32]
SAMPLING_RATE = 44100  # Hz
MINUTES = (2.5, 3.0, 3.5, 4.0, 4.5, 7.0)  # of the tracks that are analysed
REPEATS = 2  # of each
COPIES = 64  # files of a real run
LISTED = 200_000  # addresses
FETCHES = 2  # downloads at a time for each core, as in genrescope.cluster.run
CORES = (2, 4, 8, 16, 32, 64, 96)
FORMATS = ("MP3", "FLAC")


@dataclass(frozen=True)
class Node:
    """A kind of machine: what is assumed of it."""

    name: str
    cores: int
    gbit: float  # of network, per second
    price: float  # US dollars an hour
    losses: float = 0.0  # taken away, times an hour


NODES = (
    Node("8 vCPU, on demand", 8, 2.5, 0.34),
    Node("8 vCPU, spot", 8, 2.5, 0.13, 0.05),
    Node("64 vCPU, on demand", 64, 25.0, 2.72),
)


@dataclass(frozen=True)
class Store:
    """An object store: what is assumed of it."""

    first_byte_s: float = 0.06
    connection_mb: float = 60.0  # megabytes a second of one download
    request_price: float = 0.4e-6  # US dollars for a GET
    list_s: float = 0.1  # a LIST request of 1,000 names


@dataclass(frozen=True)
class Measured:
    """Processor seconds of each track analysed, and how they come about."""

    analysis: tuple[float, ...]
    decoding: tuple[float, ...]
    megabytes: float  # of the 4-minute track

    @property
    def sampling_rate(self) -> float:
        """Tracks a second of one core."""
        return 1 / float(np.mean(self.analysis))

    @property
    def share(self) -> float:
        """Of decoding (with seeking and resampling)."""
        return sum(self.decoding) / sum(self.analysis)


@dataclass(frozen=True)
class Real:
    """A real run of Ray on this machine, and what the simulation makes of it."""

    workers: int
    seconds: float
    sampling_rate: float
    simulated: float


def main() -> None:
    """Measure, simulate, and print or write."""
    options = arguments()
    nodes = tuple(map(parse_node, options.node)) or NODES
    store = Store(options.first_byte, options.connection)
    busy = os.getloadavg()[0]  # of whatever else runs here
    with tempfile.TemporaryDirectory() as folder:
        tracks = {kind: make_tracks(Path(folder), kind) for kind in FORMATS}
        measured = {kind: measure(tracks[kind], options) for kind in FORMATS}
        listing = listing_rate(Path(folder))
        real = validate(tracks["MP3"], 1 / measured["MP3"].sampling_rate, Path(folder))
    figures = plan(measured, listing, real, nodes, store, options) | {"load": busy}
    if options.write:
        write_page(options.write, figures)
        draw(figures, options.write.parent / "images" / "cluster-plan.png")
    if options.json:
        json.dump(figures, sys.stdout, indent=1)
    elif not options.write:
        print("\n\n".join(tables(figures).values()))


def arguments() -> argparse.Namespace:
    """Read the options."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--tracks", type=float, default=100e6, help="to classify")
    options.add_argument("--nodes", type=int, default=100, help="in the cluster")
    options.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="NAME:CORES:GBIT:DOLLARS[:LOSSES]",
        help="a kind of node: network in Gbit/s, price and losses per hour; may be repeated",
    )
    options.add_argument("--first-byte", type=float, default=0.06, help="of the store, in s")
    options.add_argument("--connection", type=float, default=60.0, help="MB/s of one download")
    options.add_argument("--flac-mb", type=float, default=30.0, help="of a FLAC track")
    options.add_argument("--write", type=Path, metavar="PAGE", help="rewrite its tables")
    options.add_argument("--json", action="store_true", help="print all figures")
    return options.parse_args()


def parse_node(text: str) -> Node:
    """Make a node of NAME:CORES:GBIT:DOLLARS[:LOSSES]."""
    name, cores, *rest = text.split(":")
    return Node(name, int(cores), *map(float, rest))


def make_tracks(folder: Path, kind: str) -> list[Path]:
    """Write stereo tracks of ``MINUTES``, made of the package's samples and some noise."""
    paths = []
    for number, minutes in enumerate(MINUTES):
        rng = np.random.default_rng(number)
        names = rng.permutation(genrescope.SAMPLES)
        parts = [resample(*load(genrescope.sample(name)), SAMPLING_RATE) for name in names]
        mono = np.resize(np.concatenate(parts), round(minutes * 60 * SAMPLING_RATE))
        noise = 0.003 * rng.standard_normal((len(mono), 2), dtype=np.float32)
        path = folder / f"{number}.{kind.lower()}"
        encode(path, mono[:, np.newaxis] + noise, kind)
        paths.append(path)
    return paths


def encode(path: Path, stereo: Samples, kind: str) -> None:
    """Write float32 (samples, 2) as MP3 of 256 kbit/s or as FLAC."""
    if kind == "FLAC":
        soundfile.write(path, stereo, SAMPLING_RATE)
        return
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libmp3lame", rate=SAMPLING_RATE, layout="stereo", bit_rate=256_000
        )
        planes = np.ascontiguousarray(stereo.T)
        for start in range(0, planes.shape[1], SAMPLING_RATE):
            block = np.ascontiguousarray(planes[:, start : start + SAMPLING_RATE])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate = SAMPLING_RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def measure(paths: list[Path], options: argparse.Namespace) -> Measured:
    """Analyse every track with one thread; processor time, as other programs may run beside."""
    classifier = genrescope.load()
    representation = classifier.representation
    windows = getattr(representation, "windows", 1)
    window_s = representation.analyse_file(paths[0]).window_s
    analysis, decoding = [], []
    for path in paths * REPEATS:
        begin = process_time()
        excerpts(path, representation.sampling_rate, span_s=window_s, max_spans=windows)
        between = process_time()
        classifier.predict(path)
        decoding.append(between - begin)
        analysis.append(process_time() - between)
    megabytes = paths[MINUTES.index(4.0)].stat().st_size / 1e6
    if paths[0].suffix == ".flac":  # synthetic sound packs better than music
        megabytes = options.flac_mb
    return Measured(tuple(analysis), tuple(decoding), megabytes)


def listing_rate(folder: Path) -> float:
    """Files a second that are listed and cut into parts, from a list of addresses."""
    addresses = folder / "list.txt"
    with addresses.open("w") as file:
        file.writelines(f"s3://bucket/music/artist {i // 100}/{i}.mp3\n" for i in range(LISTED))
    begin = perf_counter()
    prepare(str(addresses), str(folder / "listed.parquet"), genrescope.load())
    return LISTED / (perf_counter() - begin)


def validate(paths: list[Path], track_s: float, folder: Path) -> list[Real]:
    """Run real clusters of 1 and 2 workers on this machine, and predict them.

    Parameters
    ----------
    paths
        Tracks, of which there will be copies.
    track_s
        Processor time of analysing one, measured without Ray.
    folder
        For files.
    """
    music = folder / "music"
    music.mkdir()
    for number in range(COPIES):
        os.link(paths[number % len(paths)], music / f"{number:03d}.mp3")
    first = next(part_sizes())
    start_s = real_run(music, folder / "start.parquet", 1, first) - first * track_s
    found = []
    for workers in (1, 2):
        seconds = real_run(music, folder / f"{workers}.parquet", workers, COPIES)
        hearing_s = makespan(np.array(list(sizes(COPIES))) * track_s, workers)
        simulated = COPIES / (max(0.0, start_s) + hearing_s)
        found.append(Real(workers, seconds, COPIES / seconds, simulated))
    return found


def real_run(music: Path, output: Path, workers: int, count: int) -> float:
    """Seconds that a Ray of so many workers takes for the first so many files."""
    addresses = output.with_suffix(".txt")
    names = sorted(music.iterdir())[:count]
    addresses.write_text("\n".join(map(str, names)))
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=ERROR)
    try:
        job = prepare(str(addresses), str(output), genrescope.load())
        begin = perf_counter()
        done = sum(part.files for part in classify_parts(job))
        seconds = perf_counter() - begin
    finally:
        ray.shutdown()
    if done != count:
        raise RuntimeError(f"{done} of {count} files were classified")
    return seconds


def simulate(analysis: NDArray[np.float64], megabytes: float, node: Node, store: Store) -> float:
    """Tracks a second of one node: discrete events, of downloads that share a network.

    Parameters
    ----------
    analysis
        float64 (draws,): processor seconds of tracks, drawn from.
    megabytes
        Of each track.
    node, store
        What it runs on, and where the tracks are.
    """
    rng = np.random.default_rng(0)
    files = 2000 + 200 * node.cores
    service = rng.choice(analysis, files)
    # What is fetched lies ready; every core has FETCHES downloads and twice as many files ahead.
    flows = _Flows(node.gbit * 125, store.connection_mb, megabytes)
    events = [(store.first_byte_s, 0, core) for core in range(node.cores) for _ in range(FETCHES)]
    heapq.heapify(events)
    done, now = 0, 0.0
    ready, busy = [0] * node.cores, [False] * node.cores
    ahead = [FETCHES] * node.cores
    finished: list[float] = []

    def turn(core: int) -> None:
        nonlocal done
        if not busy[core] and ready[core]:
            ready[core] -= 1
            busy[core] = True
            heapq.heappush(events, (now + service[done % files], 1, core))
            done += 1
        room = min(FETCHES - ahead[core], 2 * FETCHES - ahead[core] - ready[core])
        for _ in range(room):
            ahead[core] += 1
            heapq.heappush(events, (now + store.first_byte_s, 0, core))

    while len(finished) < files:
        arrival = flows.next_end()
        if arrival is not None and (not events or arrival <= events[0][0]):
            now = arrival
            core = flows.end(now)
            ahead[core] -= 1
            ready[core] += 1
            turn(core)
            continue
        now, kind, core = heapq.heappop(events)
        if kind == 0:
            flows.start(now, core)
        else:
            busy[core] = False
            finished.append(now)
            turn(core)
    # The middle: without the filling and the emptying.
    low, high = files // 4, files * 9 // 10
    return (high - low) / (finished[high] - finished[low])


class _Flows:
    """Downloads under way: each gets the same share of the network, but no more than a limit."""

    def __init__(self, network: float, limit: float, megabytes: float) -> None:
        self._network, self._limit, self._megabytes = network, limit, megabytes
        self._now = self._level = 0.0  # megabytes that one who was always there has got
        self._ends: list[tuple[float, int]] = []

    def _speed(self) -> float:
        return min(self._limit, self._network / max(1, len(self._ends)))

    def _advance(self, now: float) -> None:
        self._level += (now - self._now) * self._speed()
        self._now = now

    def start(self, now: float, core: int) -> None:
        self._advance(now)
        heapq.heappush(self._ends, (self._level + self._megabytes, core))

    def next_end(self) -> float | None:
        if not self._ends:
            return None
        return self._now + max(0.0, self._ends[0][0] - self._level) / self._speed()

    def end(self, now: float) -> int:
        self._advance(now)
        return heapq.heappop(self._ends)[1]


def sizes(count: int) -> Iterator[int]:
    """Files of each part of so many."""
    for size in part_sizes():
        if count <= 0:
            return
        yield min(size, count)
        count -= size


def makespan(parts: NDArray[np.float64], workers: int, losses: float = 0.0) -> float:
    """Seconds until workers have made parts, each taken by the first who is free.

    Parameters
    ----------
    parts
        float64 (parts,): seconds of each.
    workers
        Side by side.
    losses
        Of a worker, a second: half a part is lost each time, on average.
    """
    rng = np.random.default_rng(0)
    again = rng.poisson(parts * losses)
    free = [0.0] * workers
    for seconds, times in zip(parts, again, strict=True):
        begin = heapq.heappop(free)
        heapq.heappush(free, begin + seconds * (1 + times / 2))
    return max(free)


def plan(
    measured: dict[str, Measured],
    listing: float,
    real: list[Real],
    nodes: tuple[Node, ...],
    store: Store,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Give all figures, measured and simulated."""
    count = int(options.tracks)
    rows = [
        project(kind, measured[kind], node, store, count, options.nodes)
        for node in nodes
        for kind in FORMATS
    ]
    first = nodes[0]
    sweep = [
        {
            "format": kind,
            "cores": cores,
            "rate": simulate(
                np.array(measured[kind].analysis),
                measured[kind].megabytes,
                Node("", cores, first.gbit, 0),
                store,
            ),
            "rate_of_cores": cores * measured[kind].sampling_rate,
            "rate_of_network": first.gbit * 125 / measured[kind].megabytes,
        }
        for kind in FORMATS
        for cores in CORES
    ]
    figures = {
        kind: {
            "tracks_per_s_core": one.sampling_rate,
            "seconds": float(np.mean(one.analysis)),
            "p95_s": float(np.quantile(one.analysis, 0.95)),
            "decoding_share": one.share,
            "megabytes": one.megabytes,
        }
        for kind, one in measured.items()
    }
    return {
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "tracks": count,
        "nodes": options.nodes,
        "measured": figures,
        "listing_files_per_s": listing,
        "list_requests_hours": count / 1000 * store.list_s / 3600,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "real": [asdict(run) for run in real],
        "store": asdict(store),
        "plan": rows,
        "sweep": sweep,
    }


def project(
    kind: str, measured: Measured, node: Node, store: Store, count: int, nodes: int
) -> dict[str, Any]:
    """Project the whole run on nodes of a kind."""
    sampling_rate = simulate(np.array(measured.analysis), measured.megabytes, node, store)
    of_cores = node.cores * measured.sampling_rate
    workers = node.cores * nodes
    parts = np.fromiter(sizes(count), np.float64)
    seconds = makespan(parts * node.cores / sampling_rate, workers, node.losses / 3600)
    cost = seconds / 3600 * node.price * nodes + count * store.request_price
    return {
        "node": node.name,
        "cores": node.cores,
        "gbit": node.gbit,
        "price": node.price,
        "losses": node.losses,
        "format": kind,
        "rate": sampling_rate,
        "cores_busy": min(1.0, sampling_rate / of_cores),
        "network_busy": min(1.0, sampling_rate * measured.megabytes / (node.gbit * 125)),
        "hours": seconds / 3600,
        "waste": 1 - count / (sampling_rate * nodes * seconds),  # losses, and waiting for the last
        "cost_per_million": cost / count * 1e6,
        "cost": cost,
    }


def machine() -> str:
    """Say what this one is."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = re.findall(r"model name\s*: (.*)", info.read_text(encoding="utf-8"))
        cpu = names[0] if names else cpu
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}"


def tables(figures: dict[str, Any]) -> dict[str, str]:
    """Give the page's tables in Markdown, by the name of their marker."""
    return {
        "measured": measured_table(figures),
        "real": real_table(figures),
        "plan": plan_table(figures),
        "sweep": sweep_table(figures),
    }


def measured_table(figures: dict[str, Any]) -> str:
    """What was measured of tracks."""
    lines = [
        f"Measured {figures['measured_at']} on: {figures['machine']}. Processor time, one thread; "
        f"{len(MINUTES)} tracks of {min(MINUTES):g} to {max(MINUTES):g} minutes, stereo, "
        f"44.1 kHz, each {REPEATS} times.",
        "",
        "| format | s a track | 95th percentile | tracks/s and core | decoding | MB a track |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, one in figures["measured"].items():
        size = f"{one['megabytes']:.1f}" + (" (assumed)" if kind == "FLAC" else "")
        lines.append(
            f"| {kind} | {one['seconds']:.3f} | {one['p95_s']:.3f} | "
            f"{one['tracks_per_s_core']:.2f} | {one['decoding_share']:.0%} | {size} |"
        )
    lines += [
        "",
        f"A list of addresses is read and cut into parts at {figures['listing_files_per_s']:,.0f} "
        f"files/s; listing {figures['tracks'] / 1e6:,.0f} million objects takes "
        f"{figures['tracks'] / 1000:,.0f} requests, {figures['list_requests_hours']:.1f} hours at "
        f"{figures['store']['list_s']:g} s each (assumed).",
    ]
    return "\n".join(lines)


def real_table(figures: dict[str, Any]) -> str:
    """Real runs beside the simulation."""
    lines = [
        f"{COPIES} of the MP3 tracks; load average of the machine before: {figures['load']:.1f} on "
        f"{os.cpu_count()} cores.",
        "",
        "| workers | real: s | real: tracks/s | simulated: tracks/s | difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    for run in figures["real"]:
        error = run["simulated"] / run["rate"] - 1
        lines.append(
            f"| {run['workers']} | {run['seconds']:.1f} | {run['rate']:.2f} | "
            f"{run['simulated']:.2f} | {error:+.0%} |"
        )
    return "\n".join(lines)


def plan_table(figures: dict[str, Any]) -> str:
    """Cost and time of the whole."""
    lines = [
        f"{figures['tracks'] / 1e6:,.0f} million tracks on {figures['nodes']} nodes:",
        "",
        "| node (assumed price an hour) | format | tracks/s a node | cores busy | network busy "
        "| hours | a million | all |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['node']}, {row['gbit']:g} Gbit/s (${row['price']:.2f}) | {row['format']} | "
        f"{row['rate']:.1f} | {row['cores_busy']:.0%} | {row['network_busy']:.0%} | "
        f"{row['hours']:,.1f} | ${row['cost_per_million']:,.2f} | ${row['cost']:,.0f} |"
        for row in figures["plan"]
    ]
    return "\n".join(lines)


def sweep_table(figures: dict[str, Any]) -> str:
    """Where the bottleneck moves as a node has more cores."""
    lines = [
        "| cores | " + " | ".join(f"{kind}: tracks/s | limit" for kind in FORMATS) + " |",
        "| --- |" + " --- | --- |" * len(FORMATS),
    ]
    for cores in CORES:
        cells = [str(cores)]
        for row in figures["sweep"]:
            if row["cores"] == cores:
                cells += [f"{row['rate']:.1f}", limit(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def limit(row: dict[str, Any]) -> str:
    """Name what holds a node back."""
    if row["rate"] > 0.95 * row["rate_of_cores"]:
        return "cores"
    return "network" if row["rate"] > 0.9 * row["rate_of_network"] else "both"


def write_page(page: Path, figures: dict[str, Any]) -> None:
    """Put the tables between the page's markers."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables(figures).items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{page} has no place for the table {name} ({begin} … {end})")
        head, _, rest = text.partition(begin)
        text = f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    page.write_text(text, encoding="utf-8")


def draw(figures: dict[str, Any], path: Path) -> None:
    """Draw how the bottleneck moves, and what a million tracks cost."""
    colours = dict(zip(FORMATS, ("#0072B2", "#D55E00"), strict=True))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for kind in FORMATS:
        rows = [row for row in figures["sweep"] if row["format"] == kind]
        cores = [row["cores"] for row in rows]
        colour = colours[kind]
        left.plot(cores, [row["rate"] for row in rows], "o-", color=colour, label=kind)
        left.plot(cores, [row["rate_of_cores"] for row in rows], ":", color=colour, linewidth=1)
        left.axhline(rows[0]["rate_of_network"], color=colour, linestyle="--", linewidth=1)
    gbit = figures["plan"][0]["gbit"]
    left.set(xscale="log", yscale="log", xlabel="cores of a node", ylabel="tracks/s of a node")
    left.set_xticks(CORES, map(str, CORES))
    left.set_title(f"A node with {gbit:g} Gbit/s (dotted: its cores, dashed: its network)", size=9)
    left.legend(frameon=False)
    names = list(dict.fromkeys(row["node"] for row in figures["plan"]))
    for offset, kind in enumerate(FORMATS):
        costs = [row["cost_per_million"] for row in figures["plan"] if row["format"] == kind]
        places = np.arange(len(names)) + 0.4 * offset - 0.2
        bars = right.bar(places, costs, 0.38, color=colours[kind], label=kind)
        right.bar_label(bars, fmt="$%.2f", size=8)
    right.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names], size=8)
    right.set(ylabel="US dollars for a million tracks")
    right.set_title("At the assumed prices", size=9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
