"""Every file that once broke a reader gives one line and a hint, exit code 2, in under ten seconds and a gigabyte.

The files lie beside the checkout. What each did is in tests of their own here, on inputs that those make.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHARED

CASES = SHARED / "cases"
FILES = {"onnx": "*.onnx", "nemo": "*.nemo", "config": "*", "toml": "*/x.toml", "pt": "*.pt"}
MOST_SECONDS = 10.0  # of the processor: other work on the machine does not count
MOST_BYTES = 1 << 30
# One process runs a command on each file, as starting takes far longer than a refusal.
RUN = """
import contextlib, io, json, sys, time
from mbx_deploy.commands.cli import main
for arguments in json.load(sys.stdin):
    sys.argv = ["mbx-deploy", *arguments]
    errors, code, begin = io.StringIO(), 0, time.process_time()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    # Not getrusage(): its peak begins with that of the process which started this one.
    peak = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps([code, errors.getvalue(), time.process_time() - begin, peak]), flush=True)
"""


def arguments(path: Path, kind: str, folder: Path) -> list[str]:
    """Return the arguments of the command that reads a file."""
    model, out, data = str(path), str(folder / "out"), str(folder / "data")
    return {
        "onnx": ["import", "--model", model, "--labels", str(folder / "labels.txt"), "-o", f"{out}.pt"],
        "nemo": ["import", "--model", model, "-o", f"{out}.pt"],
        "config": ["train", "--config", model, "--data", data, "-o", out],
        "toml": ["build", "--target", model, "-o", out],
        "pt": ["export", model, "--data", data, "-o", f"{out}.tflite"],
    }[kind]


@pytest.mark.skipif(not CASES.is_dir(), reason="the hostile files are not here: shared/cases, beside the checkout")
@pytest.mark.parametrize("kind", FILES)
def test_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    (tmp_path / "data").mkdir()
    files = sorted((CASES / kind).glob(FILES[kind]))
    assert files
    given = [arguments(path, kind, tmp_path) for path in files]
    given.insert(0, given[0])  # what loading torch takes does not count
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(given), capture_output=True, text=True, timeout=300
    )
    found = [json.loads(line) for line in done.stdout.splitlines()][1:]
    assert len(found) == len(files), done.stderr
    for path, (code, errors, seconds, peak) in zip(files, found, strict=True):
        lines = errors.splitlines()
        assert code == 2 and len(lines) == 2, f"{path}: {errors}"
        assert lines[0].startswith("error: ") and lines[1].startswith("  hint: "), f"{path}: {errors}"
        assert str(path) in lines[0] or path.name in lines[0], errors
        assert seconds < MOST_SECONDS and peak < MOST_BYTES, path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "labels.txt"]
