"""The page: drop, record or choose a clip and see its genres; and a study's report."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from genrescope import SAMPLES, sample
from genrescope.classifier import CARD
from genrescope.errors import InputError
from genrescope.representations.embedding import Embedding
from genrescope.web.analysis import AnalysisOptions, minutes
from genrescope.web.answer import render, render_fault
from genrescope.web.clients import client_of
from genrescope.web.queue import FullError
from genrescope.web.service import Service
from genrescope.web.sessions import Sessions
from genrescope.web.upload import Uploads

_SAMPLES = {"lament": "Slow quartet", "pulse": "Machine beat", "shuffle": "Swinging band"}
_HINT = (
    '<div class="gs-answer gs-hint">Drop a clip, record one, or take a sample: its genres will '
    "appear here.</div>"
)
_METADATA = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_PICTURE = re.compile(r"\]\(figures/")
_EXPLAINED_S = 60  # of models with windows: an explanation of more takes too long for a page
_STALE_S = 600  # uploads that nobody asks about are deleted after this


def make_page(
    service: Service, report: Path | None, uploads: Uploads
) -> tuple[gr.Blocks, Sessions]:
    """Build the page.

    Parameters
    ----------
    service
        The classifier and its queue.
    report
        Folder of a study's report, for the second tab.
    uploads
        The files that are sent; nothing else is ever deleted.

    Returns
    -------
    page
        As gradio lays it out.
    sessions
        The sessions of its visitors.
    """
    limits = service.limits
    most = f"up to {limits.megabytes:g} MB or {minutes(limits.minutes)}"

    async def answer(path: str | None, request: gr.Request) -> tuple[Any, Any]:
        if path is None:
            return gr.skip(), gr.skip()
        try:
            text = await _answer(service, Path(path), request)
        finally:
            uploads.forget(path)
        return gr.update(value=None), await kept(text, request)

    def sampled(name: str) -> Callable[..., Any]:
        async def answer(request: gr.Request) -> Any:
            return await kept(await _answer(service, sample(name), request), request)

        return answer

    async def kept(text: str, request: gr.Request) -> Any:
        # Gradio would keep for good what nobody fetches.
        return text if await sessions.awaits(request.session_hash) else gr.skip()

    with gr.Blocks(
        title="genrescope", analytics_enabled=False, delete_cache=(60, _STALE_S), fill_width=True
    ) as page:
        gr.HTML(
            '<header class="gs-head"><h1>genrescope</h1>'
            "<p>What genre is this? Files are analysed on this server, and deleted afterwards."
            "</p></header>"
        )
        with gr.Tabs():
            with gr.Tab("Listen"):
                with gr.Row():
                    with gr.Column(scale=2, min_width=300):
                        sound = gr.Audio(
                            label=f"Audio, {most}",
                            sources=["upload", "microphone"],
                            type="filepath",
                            editable=False,
                            elem_id="gs-input",
                        )
                        gr.HTML("<p>Or a synthetic sample:</p>")
                        with gr.Row():
                            buttons = {
                                name: gr.Button(_SAMPLES[name], size="sm", min_width=90)
                                for name in SAMPLES
                            }
                    with gr.Column(scale=3, min_width=320):
                        shown = gr.HTML(_HINT, elem_id="gs-shown")
                with gr.Accordion("The model", open=False):
                    gr.Markdown(_card(service.classifier.folder), latex_delimiters=[])
            with gr.Tab("Study"):
                gr.Markdown(_report(report), elem_classes="gs-report", latex_delimiters=[])
            with gr.Tab("For programs"):
                gr.Markdown(_for_programs(), latex_delimiters=[])
        settings: dict[str, Any] = {
            "api_visibility": "private",
            "concurrency_limit": None,  # turns are the service's
            "scroll_to_output": True,  # on a phone it stands below
            "show_progress": "full",
            "show_progress_on": shown,
        }
        gr.on(
            [sound.upload, sound.stop_recording],
            answer,
            sound,
            [sound, shown],
            trigger_mode="multiple",
            **settings,
        )
        for name, button in buttons.items():
            button.click(sampled(name), None, shown, **settings)
    page.max_threads = limits.inside  # whose turn it is, the service knows, once it is asked
    page.queue(api_open=False, max_size=limits.inside)
    uploads.paths = page.upload_file_set  # what it may open, and deletes if nobody asks about it
    sessions = Sessions(page)
    return page, sessions


def look() -> dict[str, Any]:
    """Give the looks of the page, as gradio's ``mount_gradio_app`` takes them."""
    # Fonts of the system: the theme's own would come from elsewhere.
    font = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace"]
    theme = gr.themes.Base(
        primary_hue="indigo", neutral_hue="slate", font=font, font_mono=mono, radius_size="md"
    )
    assets = files("genrescope.web") / "assets"
    script = (assets / "page.js").read_text(encoding="utf-8")
    return {
        "theme": theme,
        "css": (assets / "page.css").read_text(encoding="utf-8"),
        "head": f"<script>{script}</script>",
        "footer_links": [],
    }


async def _answer(service: Service, path: Path, request: gr.Request) -> str:
    client = client_of(request.request.scope) if request.request else ""
    name = path.name
    embedder = service.classifier.representation.embedder
    explained = _EXPLAINED_S if isinstance(embedder, Embedding) else 0
    try:
        with service.queue.place(client):
            analysis = await service.analyse(
                path, client, AnalysisOptions(timeline=True, show=True, explain_s=explained)
            )
        return render(analysis, name, service.near(analysis), _calibration(service))
    except InputError as error:
        return render_fault(str(error))
    except FullError:
        return render_fault("Too many people are waiting. Try again in a few seconds.")


def _calibration(service: Service) -> str:
    trained = service.classifier.config.trained
    if not isinstance(error := trained.get("ece"), float):
        return ""
    return (
        f"In tests ({trained.get('protocol')}) such percentages were off by "
        f"{100 * error:.0f} points on average."
    )


def _card(folder: Path) -> str:
    path = folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else "This model has no card."
    return _METADATA.sub("", text)


def _report(folder: Path | None) -> str:
    if folder is None:
        return (
            "No report is shown. Make one with `genrescope study --data gtzan --out report`, and "
            "start the page with `genrescope serve --report report`."
        )
    text = (folder / "report.md").read_text(encoding="utf-8")
    return _PICTURE.sub("](report/", text)


def _for_programs() -> str:
    return """
The page's server also has a JSON API, described in [openapi.json](openapi.json).

```sh
curl -F file=@song.mp3 'http://127.0.0.1:7860/api/classify?timeline=true'
```

```python
import httpx

with open("song.mp3", "rb") as file:
    answer = httpx.post("http://127.0.0.1:7860/api/classify", files={"file": file}).json()
print(answer["genre"], answer["confidence"], answer["sentence"])
```

With a token: `curl -H "Authorization: Bearer TOKEN" …`. `GET /healthz` is a health check;
`GET /api/version` gives the version, the model and its genres.
"""
