"""An answer as HTML: the sentence, the genres, the genre over time, tags, similar tracks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import jinja2
import numpy as np

from genrescope.audio.spectral import mel_centres
from genrescope.classifier import Timeline
from genrescope.library.similar import Neighbour
from genrescope.serialize import sentence
from genrescope.web.analysis import BANDS, RATE, UploadAnalysis

_NAMED = 5  # genres of the strip that have a colour
_REST = "the rest"  # the other genres of the strip
_HEIGHT, _LENGTH = 100, 1000  # of the strip's drawing, in its own units
_TAGS = 12
_LIKELY = 0.1  # a tag less likely than this is not shown


@dataclass(frozen=True)
class _Patch:
    # One cell of an explanation, in the drawing's units; ``weight`` in [-1, 1].
    x: float
    y: float
    width: float
    height: float
    weight: float


@dataclass(frozen=True)
class _Layer:
    # One genre in the strip.
    name: str
    path: str


def render(
    analysis: UploadAnalysis, name: str, near: Sequence[Neighbour] = (), calibration: str = ""
) -> str:
    """Render an analysis as HTML; names in it are escaped.

    Parameters
    ----------
    analysis
        With the timeline, the picture and the sound.
    name
        Of the file.
    near
        Similar tracks.
    calibration
        A sentence on how far the percentages can be believed.
    """
    found = analysis.prediction
    layers = _layers(analysis.timeline, analysis.seconds) if analysis.timeline else []
    content: dict[str, Any] = {
        "name": name,
        "sentence": sentence(found, analysis.timeline),
        "found": found,
        "warnings": found.warnings,
        "genres": list(found.probabilities.items()),
        "seconds": analysis.seconds,
        "length": _clock(analysis.seconds),
        "middle": _clock(analysis.seconds / 2),
        "picture": _data("image/png", analysis.picture),
        "sound": _data("audio/mpeg", analysis.sound),
        "layers": layers,
        "description": _words(analysis.timeline, analysis.seconds) if analysis.timeline else "",
        "tags": [(tag, share) for tag, share in found.tags.items() if share >= _LIKELY][:_TAGS],
        "patches": _patches(analysis),
        "near": near,
        "rest": _REST,
        "calibration": calibration,
    }
    return _template("answer.html.j2").render(content)


def render_fault(text: str) -> str:
    """Render an error as HTML."""
    return _template("fault.html.j2").render(text=text)


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genrescope.web", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}" if content else ""


def _layers(timeline: Timeline, seconds: float) -> list[_Layer]:
    # Steps lie one on another, the strongest genre at the bottom.
    shares = timeline.probabilities
    strongest = np.argsort(-shares.mean(axis=0), kind="stable")[:_NAMED]
    rest = shares.sum(axis=1) - shares[:, strongest].sum(axis=1)  # of silence, none
    rows = [*shares[:, strongest].T, rest]
    names = [*(timeline.genres[i] for i in strongest), _REST]
    edges = _edges(timeline, seconds) / max(seconds, 1e-9) * _LENGTH
    below = np.zeros(len(shares))
    layers = []
    for name, row in zip(names, rows, strict=True):
        above = np.clip(below + row, 0, 1)
        layers.append(_Layer(name, _outline(edges, below, above)))
        below = above
    return layers


def _patches(analysis: UploadAnalysis) -> list[_Patch]:
    # Over the picture, whose frequency axis is that of its mel bands.
    if (why := analysis.explanation) is None or not analysis.picture:
        return []
    x = np.minimum(why.times / max(analysis.seconds, 1e-9), 1) * _LENGTH
    scale = [0, *mel_centres(RATE, BANDS - 1), RATE / 2]
    y = _HEIGHT * (1 - np.interp(why.bands, scale, np.linspace(0, 1, BANDS + 1)))
    weights = why.drops / max(float(np.abs(why.drops).max()), 1e-9)
    return [
        _Patch(*map(float, (x[i], y[j + 1], x[i + 1] - x[i], y[j] - y[j + 1], weight)))
        for (i, j), weight in np.ndenumerate(weights)
    ]


def _outline(edges: Any, below: Any, above: Any) -> str:
    top = [(x, y) for i, y in enumerate(above) for x in (edges[i], edges[i + 1])]
    bottom = [(x, y) for i, y in enumerate(below) for x in (edges[i], edges[i + 1])]
    points = [f"{x:.1f} {_HEIGHT * (1 - y):.1f}" for x, y in [*top, *reversed(bottom)]]
    return f"M{' L'.join(points)}Z"


def _edges(timeline: Timeline, seconds: float) -> Any:
    step = min(timeline.step_s, seconds)
    return np.minimum(np.arange(len(timeline.probabilities) + 1) * step, seconds)


def _words(timeline: Timeline, seconds: float) -> str:
    # The strip in words, for those who do not see it: stretches of the same genre.
    best, edges = timeline.best, _edges(timeline, seconds)
    changes = [i for i, (a, b) in enumerate(pairwise(best), start=1) if a != b]
    stretches = [
        f"{best[a] or 'silence'} from {_clock(edges[a])} to {_clock(edges[b])}"
        for a, b in pairwise([0, *changes, len(best)])
    ]
    more = f" and {len(stretches) - 12} more changes" if len(stretches) > 12 else ""
    return "; ".join(stretches[:12]) + more


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
