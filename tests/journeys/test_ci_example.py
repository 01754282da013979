"""The GitHub Actions example: its YAML is sound, and the lines that it runs do what they say, here as there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / "examples" / "ci" / "firmware.yml"


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    """The workflow, read."""
    values: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
    return values


def test_the_workflow_is_one(workflow: dict[Any, Any]) -> None:
    assert "\t" not in WORKFLOW.read_text()
    assert set(workflow) == {"name", True, "permissions", "env", "jobs"}  # YAML reads `on` as true
    assert set(workflow[True]) == {"push", "pull_request"}
    (job,) = workflow["jobs"].values()
    assert job["runs-on"].startswith("ubuntu-")
    for step in job["steps"]:
        assert set(step) <= {"name", "uses", "with", "run", "if"} and ("uses" in step) != ("run" in step)
        assert "uses" not in step or "@v" in step["uses"]
    for name in ("BASELINE", "RECORDINGS"):
        assert (ROOT / workflow["env"][name]).is_file()


@pytest.mark.timeout(300)
def test_its_lines_run_as_written(workflow: dict[Any, Any], tmp_path: Path) -> None:
    (job,) = workflow["jobs"].values()
    lines = [step["run"] for step in job["steps"] if "run" in step]
    assert "scripts/setup.sh core" in lines[0]  # what `make demo` runs, too
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "mbx-deploy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mbx_deploy "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, **workflow["env"], "RUNNER_TEMP": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"
    for line in lines[1:]:
        done = subprocess.run(
            ["bash", "-e", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert {"firmware", "verify.json", "regress.json"} <= {path.name for path in tmp_path.iterdir()}
    assert "no regression" in done.stdout
