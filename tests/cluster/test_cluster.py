"""On real Ray clusters of several nodes on this machine, and a real server that speaks S3."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import genrescope
from genrescope.classifier import Classifier
from genrescope.classifier.batch import classify_files
from genrescope.cluster import storage
from genrescope.cluster.lists import File, cut, list_files, part_sizes
from genrescope.cluster.parts import MANIFEST, prepare
from genrescope.cluster.run import connected
from genrescope.errors import GenrescopeError
from hostile import hostile

MEGABYTE = 2**20
PATIENCE_S = 300

on_ray = pytest.mark.xdist_group("ray")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.default()


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """84 files, of which 4 cannot be analysed."""
    folder = tmp_path_factory.mktemp("cluster") / "music"
    for number in range(80):
        album = folder / f"album {number % 8}"
        album.mkdir(parents=True, exist_ok=True)
        name = genrescope.SAMPLES[number % 3]
        shutil.copy(genrescope.sample(name), album / f"{number:02d} é#%20+{name}.mp3")
    whole = genrescope.sample().read_bytes()
    (folder / "album 0" / "truncated.mp3").write_bytes(whole[:20000])
    (folder / "album 1" / "empty.flac").write_bytes(b"")
    (folder / "album 2" / "text.ogg").write_text("no music")
    (folder / "album 3" / "noise.wav").write_bytes(b"RIFF" + bytes(range(200)))
    (folder / "album 3" / "cover.jpg").write_bytes(b"no audio")
    (folder / "album 3" / ".hidden.mp3").write_bytes(b"no audio")
    return folder


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Of processes that start or join a Ray cluster; a token keeps others out of it."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    package = str(Path(genrescope.__file__).parents[1])
    return {**os.environ, **token, "PYTHONPATH": package, "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture
def nodes(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of a head without cores and two workers with one each."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 * MEGABYTE}
    started = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, **memory},
    )
    try:
        workers = [started.add_node(num_cpus=1, **memory) for _ in range(2)]
        yield started, workers
    finally:
        started.shutdown()


def command(*options: str | Path) -> list[str]:
    return [sys.executable, "-m", "genrescope", "cluster", "classify", *map(str, options)]


def run(*options: str | Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options),
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )


def wait_for(there: Any, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)


def rows(output: Path) -> list[dict[str, Any]]:
    return pq.read_table(output).to_pylist()


def parts(output: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in output.glob("part-*.parquet")}


def assert_complete(output: Path, music: Path, classifier: Classifier) -> None:
    """Every file once, failures as rows, and what the single machine says."""
    found = rows(output)
    files = sorted(path for path in music.rglob("[!.]*") if path.suffix not in {".jpg", ""})
    assert sorted(row["path"] for row in found) == [str(path) for path in files]
    answers = {str(a.path): a for a in classify_files(classifier, files, workers=1)}
    for row in found:
        answer = answers[row["path"]]
        assert row["size"] == answer.path.stat().st_size
        if answer.prediction is None:
            assert row["genre"] is None
            assert str(answer.error).endswith(f"{row['error']}")
            continue
        assert row["error"] is None
        assert row["genre"] == answer.prediction.genre
        assert row["unsure"] == answer.prediction.unsure
        assert row["confidence"] == pytest.approx(answer.prediction.confidence)
        assert row["probabilities"] == pytest.approx(answer.prediction.probabilities)
        assert dict(row["tags"]) == pytest.approx(answer.prediction.tags)
    assert sum(row["error"] is not None for row in found) == 4


@on_ray
@pytest.mark.slow
def test_a_node_that_dies_costs_no_file_and_doubles_none(
    nodes: Any, music: Path, classifier: Classifier, environment: dict[str, str], tmp_path: Path
) -> None:
    started, workers = nodes
    output = tmp_path / "out.parquet"
    line = command(music, "--address", started.address, "--out", output)
    with subprocess.Popen(
        line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            wait_for(lambda: parts(output), process)
            started.remove_node(workers[0], allow_graceful=False)
            assert len(parts(output)) < 6, "it was over before the node died"
            shown, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 1  # as files failed
    summary = json.loads(shown)
    assert (summary["files"], summary["failed"]) == (84, 4)
    assert_complete(output, music, classifier)
    assert len(parts(output)) == 6


@on_ray
@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_was(
    music: Path, classifier: Classifier, environment: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    options = (music, "--address", "local", "--out", output)
    with subprocess.Popen(
        command(*options),
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        wait_for(lambda: parts(output), process)
        process.send_signal(signal.SIGKILL)
    time.sleep(3)  # its workers end with it; one may still be writing
    before = parts(output)
    if len(before) == 6:  # a quick machine: the last part was not finished either
        (output / "part-0000005.parquet").unlink()
        del before["part-0000005.parquet"]
    (music / "album 0" / "added later.mp3").write_bytes(genrescope.sample().read_bytes())
    try:
        done = run(*options, env=environment)
    finally:
        (music / "album 0" / "added later.mp3").unlink()
    assert done.returncode in {0, 1}, done.stderr
    summary = json.loads(done.stdout)
    assert done.returncode == (summary["failed"] > 0)
    assert summary["finished_before"] + summary["files"] == 84
    assert summary["finished_before"] >= 16 * len(before) - 12
    after = parts(output)
    assert {name: after[name] for name in before} == before
    assert_complete(output, music, classifier)
    again = run(*options, env=environment)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["files"] == 0
    assert parts(output) == after


@on_ray
@pytest.mark.slow
def test_a_file_that_crashes_its_worker_becomes_a_row(
    environment: dict[str, str], tmp_path: Path
) -> None:
    music, output = tmp_path / "music", tmp_path / "out.parquet"
    music.mkdir()
    for number in range(20):
        shutil.copy(genrescope.sample(), music / f"{number}.mp3")
    shutil.copy(genrescope.sample(), music / "3 poison.mp3")
    env = environment | hostile(tmp_path, abort="poison.mp3")
    env["PYTHONPATH"] += f"{os.pathsep}{environment['PYTHONPATH']}"
    done = run(music, "--address", "local", "--out", output, env=env)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["failed"] == 1
    found = {Path(row["path"]).name: row["error"] for row in rows(output)}
    assert len(found) == len(rows(output)) == 21
    assert "crashed" in found.pop("3 poison.mp3")
    assert set(found.values()) == {None}


@on_ray
@pytest.mark.slow
def test_a_node_that_makes_another_model_is_named(
    music: Path, classifier: Classifier, environment: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    prepare(str(music), str(output), classifier)
    config = output / "_model" / "config.json"
    config.write_text(config.read_text().replace('"blues"', '"blue"'))
    done = run(music, "--address", "local", "--out", output, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: The cluster has failed" in done.stderr
    assert "reads its model as another one" in done.stderr
    assert not parts(output)


@on_ray
@pytest.mark.slow
def test_gpus_get_the_actors_only_where_the_model_runs_on_them(
    music: Path, classifier: Classifier, environment: dict[str, str], tmp_path: Path
) -> None:
    line = [sys.executable, "-c", GPUS, str(music), str(tmp_path / "out.parquet")]
    done = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path / "out.parquet", music, classifier)


# Ray reads its token once a process. Two GPUs are declared and there is none, which only the model
# itself can state.
GPUS = """
import sys
import ray
from genrescope.classifier import Classifier
from genrescope.cluster import run as cluster
from genrescope.cluster.parts import prepare

job = prepare(sys.argv[1], sys.argv[2], Classifier.default())
memory = 100 * 2**20
ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False, object_store_memory=memory)
assert cluster._resources(job) == cluster._Resources(actors=4, cores=1, gpus=0)
cluster._runs_on_gpu = lambda _: True
assert cluster._resources(job) == cluster._Resources(actors=2, cores=2, gpus=1)
assert sum(part.files for part in cluster.classify_parts(job)) == 84
"""


@pytest.fixture
def bucket(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket on a server that speaks S3, and what the AWS tools find it by."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        aws = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "anyone",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for name, value in aws.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        storage._filesystem.cache_clear()
        yield client, {**environment, **aws}
    finally:
        server.stop()
        storage._filesystem.cache_clear()


@on_ray
@pytest.mark.slow
def test_buckets_are_read_and_written(
    bucket: Any, music: Path, classifier: Classifier, tmp_path: Path
) -> None:
    client, env = bucket
    files = sorted(music.rglob("*.*"))[::3]
    for path in files:
        client.upload_file(str(path), "bucket", f"music/{path.relative_to(music)}")
    where = ("s3://bucket/music", "--address", "local", "--out")
    done = run(*where, "s3://bucket/results/out.parquet", env=env)
    assert done.returncode in {0, 1}, done.stderr
    listing = client.list_objects_v2(Bucket="bucket", Prefix="results/out.parquet/part-")
    for item in listing["Contents"]:
        client.download_file("bucket", item["Key"], str(tmp_path / Path(item["Key"]).name))
    found = {row["path"]: row for row in rows(tmp_path)}
    analysed = [p for p in files if p.suffix != ".jpg" and not p.name.startswith(".")]
    paths = {f"s3://bucket/music/{path.relative_to(music)}": path for path in analysed}
    assert set(found) == set(paths)
    assert len(rows(tmp_path)) == len(analysed) == json.loads(done.stdout)["files"]
    for row in found.values():
        answer = next(classify_files(classifier, [paths[row["path"]]]))
        assert row["genre"] == (answer.prediction and answer.prediction.genre)
        assert (row["error"] is None) == (answer.error is None)
    again = run(*where, "s3://bucket/results/out.parquet", env=env)
    assert json.loads(again.stdout)["files"] == 0, again.stderr


@on_ray
def test_a_bucket_is_listed_and_what_is_not_there_is_named(bucket: Any) -> None:
    client, _ = bucket
    names = ("list/b/c/2 é.mp3", "list/b/1.mp3", "list/a.MP3", "list/notes.txt", "other/x.mp3")
    for name in names:
        client.put_object(Bucket="bucket", Key=name, Body=b"music")
    expected = [File(f"s3://bucket/{names[i]}", 5) for i in (2, 1, 0)]
    assert list(list_files("s3://bucket/list/")) == expected
    assert list(list_files("s3://bucket/list/a.MP3")) == expected[:1]
    with pytest.raises(GenrescopeError, match="no such file or folder"):
        list(list_files("s3://bucket/nothing"))
    with pytest.raises(GenrescopeError, match="s3://no-such-bucket/music"):
        list(list_files("s3://no-such-bucket/music"))
    with pytest.raises(GenrescopeError, match="it cannot be reached"):
        list(list_files("nonsense://bucket/music"))


@given(st.integers(0, 5000), st.integers(0, 80_000))
def test_parts_hold_every_file_once_in_order(count: int, far: int) -> None:
    made = list(cut(range(count)))
    assert [number for part in made for number in part] == list(range(count))
    assert all(made)
    sizes = list(islice(part_sizes(), len(made) + 1))
    assert [len(part) for part in made[:-1]] == sizes[: len(made) - 1 if made else 0]
    # Files that are added at the end leave the parts before them alone.
    more = list(cut(range(count + far)))
    assert more[: len(made) - 1 if made else 0] == made[:-1]


def test_parts_are_small_at_first_and_never_large() -> None:
    sizes = list(islice(part_sizes(), 1000))
    assert sizes[:64] == [16] * 64
    assert sizes == sorted(sizes)
    assert sizes[-1] == 1000
    assert 64_000 <= sum(sizes[: sizes.index(1000)]) < 65_000


def test_folders_are_listed_in_order_without_following_links(music: Path, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "up").symlink_to(tmp_path)
    shutil.copy(genrescope.sample(), tmp_path / "music" / "song.MP3")
    assert [Path(file.path).name for file in list_files(str(tmp_path))] == ["song.MP3"]
    found = list(list_files(str(music)))
    assert len(found) == 84
    assert [file.path for file in found] == sorted(file.path for file in found)
    assert list(list_files(f"file://{music}")) == found


def test_what_pyarrow_does_not_know_goes_through_fsspec() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe({"/shelf/b/1 é.mp3": b"music", "/shelf/a.flac": b"song"})
    try:
        found = list(list_files("memory://shelf"))
        assert found == [File("memory://shelf/a.flac", 4), File("memory://shelf/b/1 é.mp3", 5)]
        memory_storage, path = storage.locate(found[1].path)
        assert memory_storage.open_input_stream(path).read() == b"music"
    finally:
        memory.rm("/shelf", recursive=True)


def test_lists_of_addresses_are_read(tmp_path: Path) -> None:
    paths = ["s3://bucket/ä.mp3", "/mnt/b c.flac", "gs://other/x#1.ogg"]
    table = pa.table({"size": [1, 2, None], "path": paths})
    pq.write_table(table, tmp_path / "list.parquet")
    pa.csv.write_csv(table.select(["path"]), tmp_path / "list.csv")
    (tmp_path / "list.txt").write_text("\n".join(paths) + "\n\n", encoding="utf-8")
    bare = [File(path) for path in paths]
    assert list(list_files(str(tmp_path / "list.txt"))) == bare
    assert list(list_files(str(tmp_path / "list.csv"))) == bare
    whole = [File(path, size) for path, size in zip(paths, [1, 2, None], strict=True)]
    assert list(list_files(str(tmp_path / "list.parquet"))) == whole
    pq.write_table(pa.table({"name": paths}), tmp_path / "list.parquet")
    with pytest.raises(GenrescopeError, match="no column path"):
        list(list_files(str(tmp_path / "list.parquet")))


def test_relative_addresses_are_made_absolute(
    music: Path, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(music.parent)
    relative = prepare("music", os.path.relpath(tmp_path / "out.parquet"), classifier)
    assert Path(relative.output).is_absolute()
    assert prepare(str(music), str(tmp_path / "out.parquet"), classifier).missing
    (tmp_path / "list.txt").write_text("music/a.mp3\ns3://bucket/b.mp3\n")
    found = list(list_files(str(tmp_path / "list.txt")))
    assert found == [File(str(music / "a.mp3")), File("s3://bucket/b.mp3")]


def test_names_that_are_no_utf8_can_be_listed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.mp3")).write_bytes(b"music")
    assert [Path(file.path).name for file in list_files(str(tmp_path))] == ["caf\\xe9.mp3"]


def test_an_output_folder_is_for_one_model_and_one_input(
    music: Path, classifier: Classifier, tmp_path: Path
) -> None:
    output = str(tmp_path / "out.parquet")
    job = prepare(str(music), output, classifier)
    assert (job.files, job.finished, job.missing) == (84, 0, tuple(range(6)))
    assert prepare(str(music), output, classifier) == job
    with pytest.raises(GenrescopeError, match="it holds results for"):
        prepare(str(music / "album 0"), output, classifier)
    classifier.save_pretrained(tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"blues"', '"blue"'))
    with pytest.raises(GenrescopeError, match="results of another model"):
        prepare(str(music), output, Classifier(tmp_path / "other"))


def test_what_a_stranger_keeps_there_is_left_alone(
    music: Path, classifier: Classifier, tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(GenrescopeError, match="something else"):
        prepare(str(music), str(tmp_path), classifier)
    with pytest.raises(GenrescopeError, match="something else"):
        prepare(str(music), str(tmp_path / "letter.txt"), classifier)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    damaged = tmp_path / "out.parquet"
    damaged.mkdir()
    (damaged / MANIFEST).write_text("{")
    with pytest.raises(GenrescopeError, match="damaged"):
        prepare(str(music), str(damaged), classifier)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(GenrescopeError, match="no audio files"):
        prepare(str(tmp_path / "nothing"), str(tmp_path / "empty.parquet"), classifier)


@on_ray
def test_a_cluster_that_is_not_there_is_named_at_once() -> None:
    begin = time.monotonic()
    for address, shown in (("127.0.0.1:1", "No Ray cluster"), ("ray://127.0.0.1:1", "ray://")):
        with pytest.raises(GenrescopeError, match=shown), connected(address):
            pass
    assert time.monotonic() - begin < 10
