"""The notebook runs from its first cell to its last, and shows what its text says."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "tour.ipynb"


def test_it_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not [c for c in cells if c.cell_type == "code" and (c.outputs or c.execution_count)]


@pytest.mark.slow
def test_it_runs_and_shows_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    analysed, picture, clips, table = (c.outputs for c in notebook.cells if c.cell_type == "code")
    assert analysed[0].text.splitlines()[0].startswith("lament: classical 0.9")
    assert "image/png" in picture[-1].data
    assert "(200, 40)" in clips[-1].data["text/plain"]
    rows = re.findall(r"^(\w+) +(0\.\d+) +(0\.\d+)$", table[0].text, re.MULTILINE)
    assert [name for name, _, _ in rows] == ["svm", "lda", "knn"]
    for _, apart, leaking in rows:
        assert 0.3 < float(apart) < float(leaking)
    assert not list(tmp_path.iterdir()), "it leaves files behind"
