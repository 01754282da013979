"""How many instructions an inference takes, counted in QEMU: exact, and the same on every machine."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mbx_deploy.engines import EMULATOR_CLIP_S, EMULATOR_START_S, FirmwareEngine
from mbx_deploy.errors import CheckFailed
from mbx_deploy.recognizer import Recognizer
from mbx_deploy.resources import firmware_templates_folder
from mbx_deploy.session import ITEM_FEATURES, TRACE_RESULTS, Item, encode_request
from mbx_deploy.target import Target
from mbx_deploy.toolchain import compile_shared_library, find_tool

_MORE = 2  # inferences of the longer run


def can_count(target: Target) -> bool:
    """Return whether this machine can count the instructions of a target's firmware."""
    emulated = target.machine is not None or target.emulated_as is not None
    return emulated and all(find_tool(tool) for tool in ("qemu-system-arm", "gcc"))


def count_inference(recognizer: Recognizer, elf: Path, target: Target) -> int:
    """Return the instructions of one inference of a firmware, from a window's features to its scores.

    The difference of two runs that differ by inferences alone; what hands features over and writes the result, some
    thousands, is in it. Raises ToolMissing where the target has no emulator, or a tool is not installed; CheckFailed
    where the firmware fails.
    """
    engine = FirmwareEngine(recognizer, elf, target)
    source = firmware_templates_folder() / "host" / "mbx_qemu_count.c"
    plugin = compile_shared_library({source.name: source.read_text()}, ("-O2",))
    one, more = (_count_run(engine, plugin, inferences) for inferences in (1, 1 + _MORE))
    return (more - one) // _MORE


def _count_run(engine: FirmwareEngine, plugin: Path, inferences: int) -> int:
    config = engine.recognizer.config
    features = np.random.default_rng(1).integers(-128, 128, config.num_frames * config.num_coefficients)
    items = [Item(ITEM_FEATURES, features.astype(np.int8))] * inferences
    with tempfile.TemporaryDirectory(prefix="mbx-count-") as folder:
        (Path(folder) / "mbx-request.bin").write_bytes(encode_request(items, TRACE_RESULTS))
        command = [engine.emulator, "-M", engine.machine, "-nographic", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(engine.elf)]
        command += ["-plugin", f"file={plugin},out=count.txt"]
        limit_s = EMULATOR_START_S + inferences * EMULATOR_CLIP_S
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False
            )
            return int((Path(folder) / "count.txt").read_text())
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"the firmware did not end within {limit_s:.0f} s ({engine.machine})") from None
        except (OSError, ValueError):
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise CheckFailed(f"instructions were not counted: {lines[-1] if lines else 'QEMU told nothing'}") from None
