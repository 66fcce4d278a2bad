"""Print a report to PDF, with a browser of this machine."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from genrescope.errors import GenrescopeError, InputError
from genrescope.io import whole

_BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("microsoft-edge", "msedge"),
)
_OPTIONS = (
    *("--headless", "--disable-gpu", "--no-pdf-header-footer", "--disable-background-networking"),
    "--no-sandbox",  # which root must switch off; the page is ours, and runs no scripts
)
_TIMEOUT_S = 180


def find_browser() -> str:
    """Find a browser that can print.

    Raises
    ------
    GenrescopeError
        If there is none.
    """
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise GenrescopeError(
            "--pdf needs Chromium, Chrome or Edge, and none is on the PATH. Install one, or leave "
            "--pdf out and print report.html from any browser."
        )
    return found


def write_pdf(html: Path, browser: str) -> Path:
    """Print a report.

    Parameters
    ----------
    html
        The page.
    browser
        See ``find_browser``.

    Returns
    -------
    pdf
        The path of ``report.pdf``, beside the page.

    Raises
    ------
    InputError
        If the browser fails, or the file cannot be written.
    """
    pdf = html.with_suffix(".pdf")
    with tempfile.TemporaryDirectory(prefix="genrescope-") as profile, whole(pdf) as partial:
        command = [browser, *_OPTIONS, f"--user-data-dir={profile}"]
        command += [f"--print-to-pdf={partial.resolve()}", html.resolve().as_uri()]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            raise _failed(pdf, browser) from error
        if not partial.stat().st_size:
            raise _failed(pdf, browser)
    return pdf


def _failed(pdf: Path, browser: str) -> InputError:
    return InputError(pdf, f"{browser} could not print it", "Print report.html from a browser")
