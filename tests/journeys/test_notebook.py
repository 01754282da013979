"""The notebook of examples/ runs from its first cell to its last, and its words are heard."""

import os
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples/data_to_firmware.ipynb"
TOOLS = ("espeak-ng", "arm-none-eabi-gcc", "qemu-system-arm")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for tool in TOOLS:
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without outputs"
    client = nbclient.NotebookClient(notebook, timeout=500, kernel_name="python3")
    client.execute(cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    heard = re.findall(r"said (\w+), heard (\w+)", text)
    assert len(heard) == 3 and sum(said == word for said, word in heard) >= 2
    share = re.search(r"([\d.]+)% of \d+ clips of speakers that training never heard", text)
    assert share and float(share[1]) > 80
    assert "compared, 0 differ" in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
