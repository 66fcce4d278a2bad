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
        sys.path.insert(0, folder)  # the package itself does not install any more
        for name in names:
            seconds[name] = _time(Path(folder) / "musicnn" / name, batch)
    print(json.dumps({"tensorflow": tf.version.VERSION, "seconds": seconds}))


def _time(checkpoint: Path, batch: np.ndarray) -> float:
    from musicnn import models

    one = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default(), tf.Session(config=one) as session:
        sound = tf.placeholder(tf.float32, (None, *batch.shape[1:]))
        training = tf.placeholder(tf.bool)
        with tf.name_scope("model"):
            logits = models.define_model(sound, training, checkpoint.name, 50)[0]
        tags = tf.nn.sigmoid(logits)
        tf.train.Saver().restore(session, f"{checkpoint}/")
        feed = {sound: batch, training: False}
        session.run(tags, feed)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            session.run(tags, feed)
            times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
