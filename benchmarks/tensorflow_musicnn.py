"""Time the original graphs in TensorFlow; run by `classify_speed.py` with TensorFlow's Python.

    python tensorflow_musicnn.py WHEEL PATCHES.npy NAME...

Prints one JSON line: the best of three times in seconds for each network, on one thread.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()


def main(wheel: str, patches: str, names: list[str]) -> None:
    """Run each network over all patches."""
    batch = np.load(patches)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        for name in names:
            seconds[name] = _time(next(Path(folder).glob(f"**/{name}/*.meta")), batch)
    print(json.dumps({"tensorflow": tf.version.VERSION, "seconds": seconds}))


def _time(meta: Path, batch: np.ndarray) -> float:
    one = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default() as graph, tf.Session(config=one) as session:
        saver = tf.train.import_meta_graph(str(meta))
        saver.restore(session, str(meta.parent) + "/")
        holders = [op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"]
        sound = next(h for h in holders if h.shape.rank and h.shape.rank > 1)
        flag = next(h for h in holders if h.dtype == tf.bool)
        tags = next(op for op in graph.get_operations() if op.type == "Sigmoid").outputs[0]
        feed = {sound: batch, flag: False}
        session.run(tags, feed)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            session.run(tags, feed)
            times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
