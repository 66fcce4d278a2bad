"""Audio files: recognising, finding and decoding them."""

from genrescope.audio.decode import (
    AudioWarning,
    Clip,
    Excerpts,
    decode,
    excerpts,
    length,
    load,
    pieces,
)
from genrescope.audio.formats import EXTENSIONS, is_audio
from genrescope.audio.waveform import (
    MAX_AMPLITUDE,
    SILENCE_PEAK,
    Waveform,
    fit_length,
    is_silent,
    level_gain,
    resample,
    to_waveform,
)

__all__ = [
    "EXTENSIONS",
    "MAX_AMPLITUDE",
    "SILENCE_PEAK",
    "AudioWarning",
    "Clip",
    "Excerpts",
    "Waveform",
    "decode",
    "excerpts",
    "fit_length",
    "is_audio",
    "is_silent",
    "length",
    "level_gain",
    "load",
    "pieces",
    "resample",
    "to_waveform",
]
