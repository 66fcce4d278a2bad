"""ONNX Runtime's sessions: where and how networks run, in one place."""

from __future__ import annotations

import onnxruntime

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that there is


def open_session(content: bytes, threads: int | None = 1) -> onnxruntime.InferenceSession:
    """Open a network.

    Parameters
    ----------
    content
        Of an ONNX file. Bytes, not a path: then no other file can be drawn in as external data.
    threads
        Parallelism is over files, so one is enough; None takes every core.

    Returns
    -------
    session
        On a GPU where onnxruntime-gpu is installed and finds one, else on the CPU.

    Raises
    ------
    Exception
        Of several kinds, if ONNX Runtime cannot make anything of it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    there = onnxruntime.get_available_providers()
    providers = [name for name in _PROVIDERS if name in there]
    return onnxruntime.InferenceSession(content, options, providers=providers)


def on_gpu(session: onnxruntime.InferenceSession) -> bool:
    """Tell whether a network runs on a GPU."""
    return bool(session.get_providers()[0] == _PROVIDERS[0])
