"""ONNX Runtime sessions. Network files are not trusted."""

from __future__ import annotations

import re

import onnxruntime

MAX_MODEL_BYTES = 2**31
"""Maximum size of an ONNX file: protobuf's limit."""

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # in order of preference
# The key under which a tensor names its external file, after the length of the key, which protobuf
# allows to be padded.
_EXTERNAL = re.compile(rb"(?<=\x08)location|\x88\x80*\x00location")


def open_session(content: bytes, threads: int | None = 1) -> onnxruntime.InferenceSession:
    """Load a network, without any other file.

    Parameters
    ----------
    content
        Of an ONNX file.
    threads
        Parallelism is over files, so one is enough; None uses every core.

    Returns
    -------
    session
        On a GPU if onnxruntime-gpu is installed and finds one, else on the CPU.

    Raises
    ------
    ValueError
        If it is not a network, stores weights in another file or uses custom operations; the
        message is a clause.
    """
    # ONNX Runtime would look for that file in the current folder.
    if b"location" in content and _EXTERNAL.search(content):
        raise ValueError("it keeps weights in another file, which is never read")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    # ONNX Runtime's own format is validated less strictly.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    available = onnxruntime.get_available_providers()
    providers = [name for name in _PROVIDERS if name in available]
    try:
        # Without a second provider, enable_fallback would only print a message.
        session = onnxruntime.InferenceSession(
            content, options, providers=providers, enable_fallback=len(providers) > 1
        )
        for value in (*session.get_inputs(), *session.get_outputs()):
            value.name, value.shape  # noqa: B018  an error if a name in them is not UTF-8
    except Exception as error:
        message = first_line(error)
        if "not a registered function/op" in message or "No opset import" in message:
            cause = f"it uses custom operations, which are never loaded ({message})"
            raise ValueError(cause) from error
        raise ValueError(f"ONNX Runtime cannot read it ({message})") from error
    return session


def first_line(error: Exception) -> str:
    """Return the first line of an ONNX Runtime error, in printable characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(sign if sign.isprintable() else "?" for sign in lines[0][:300])


def on_gpu(session: onnxruntime.InferenceSession) -> bool:
    """Return whether a network runs on a GPU."""
    return bool(session.get_providers()[0] == _PROVIDERS[0])
