"""ONNX Runtime's sessions: where and how networks run, in one place. No network is trusted."""

from __future__ import annotations

import re

import onnxruntime

MAX_MODEL_BYTES = 2**31
"""Of an ONNX file: protobuf, which it is written in, has no larger ones."""

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that there is
# A tensor that lies in another file names it under this key. The length before it may be written
# with more digits than it needs; the name itself cannot be written otherwise.
_ELSEWHERE = re.compile(rb"(?<=\x08)location|\x88\x80*\x00location")


def open_session(content: bytes, threads: int | None = 1) -> onnxruntime.InferenceSession:
    """Open a network, and nothing but it.

    Parameters
    ----------
    content
        Of an ONNX file.
    threads
        Parallelism is over files, so one is enough; None takes every core.

    Returns
    -------
    session
        On a GPU where onnxruntime-gpu is installed and finds one, else on the CPU.

    Raises
    ------
    ValueError
        If it is no network, keeps weights in another file or uses operations that are not part of
        ONNX Runtime; says so, as a clause.
    """
    # ONNX Runtime would look for that file in the folder that the process happens to run in.
    if b"location" in content and _ELSEWHERE.search(content):
        raise ValueError("it keeps weights in another file, and none but this one is ever read")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    # Its own format, which it would take as well, is checked less.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    there = onnxruntime.get_available_providers()
    providers = [name for name in _PROVIDERS if name in there]
    try:
        # Where there is nothing else to fall back on, it would print that it does so.
        session = onnxruntime.InferenceSession(
            content, options, providers=providers, enable_fallback=len(providers) > 1
        )
        for value in (*session.get_inputs(), *session.get_outputs()):
            value.name, value.shape  # noqa: B018  an error if a name in them is not UTF-8
    except Exception as error:
        told = first_line(error)
        if "not a registered function/op" in told or "No opset import" in told:
            cause = f"it uses custom operations, and none are ever loaded ({told})"
            raise ValueError(cause) from error
        raise ValueError(f"ONNX Runtime cannot read it ({told})") from error
    return session


def first_line(error: Exception) -> str:
    """Give the first line of what ONNX Runtime says, without what is no text in it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(sign if sign.isprintable() else "?" for sign in lines[0][:300])


def on_gpu(session: onnxruntime.InferenceSession) -> bool:
    """Tell whether a network runs on a GPU."""
    return bool(session.get_providers()[0] == _PROVIDERS[0])
