"""A build that was killed left its folders in TMPDIR, and the compiler's own files beside them, for ever."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mbx_deploy.system.scratch import PREFIX
from mbx_deploy.system.tools import find_tool

KILL = """
import os, signal
from mbx_deploy.system.scratch import process_folder, scratch_folder
with scratch_folder() as folder:
    for place in (folder, process_folder()):
        (place / "deep").mkdir()
        (place / "deep" / "file").write_text("x")
        os.chmod(place / "deep", 0o500)
    os.kill(os.getpid(), signal.SIGKILL)
"""
HOLD = """
import sys
from mbx_deploy.system.scratch import scratch_folder
with scratch_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.getcwd()}


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_next_process_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILL], env=environment(tmp_path), timeout=60)
    assert done.returncode == -signal.SIGKILL and len(left(tmp_path)) == 2
    (tmp_path / f"{PREFIX}file").write_text("somebody's")
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], env=environment(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin and holder.stdout
        held = Path(holder.stdout.readline().decode().strip())
        assert set(left(tmp_path)) == {held.name, f"{PREFIX}file", f"{PREFIX}link"}
        command = [sys.executable, "-m", "mbx_deploy", "targets"]
        assert subprocess.run(command, env=environment(tmp_path), capture_output=True, timeout=60).returncode == 0
        assert held.is_dir()  # in use
        holder.stdin.close()
    assert left(tmp_path) == [f"{PREFIX}file", f"{PREFIX}link"]


@pytest.mark.skipif(find_tool("cmake") is None or find_tool("gcc") is None, reason="gcc and cmake are not installed")
def test_a_build_that_is_killed(tmp_path: Path) -> None:
    for name in ("tmp", "out"):
        (tmp_path / name).mkdir()
    build = [sys.executable, "-m", "mbx_deploy", "build", "--target", "host", "-o", str(tmp_path / "out" / "b")]
    process = subprocess.Popen(
        build, env=environment(tmp_path / "tmp"), stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + 60
    while not list((tmp_path / "tmp").glob(f"{PREFIX}*/build/CMakeCache.txt")) and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert left(tmp_path / "tmp") and all(name.startswith(PREFIX) for name in left(tmp_path / "tmp"))
    command = [sys.executable, "-m", "mbx_deploy", "models"]
    subprocess.run(command, env=environment(tmp_path / "tmp"), capture_output=True, timeout=60, check=True)
    assert left(tmp_path / "tmp") == [] and left(tmp_path / "out") == []
