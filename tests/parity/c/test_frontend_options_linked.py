"""Two models in one program, of which one front end asks for options: the libraries link right, or not at all."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.engines.session import ITEM_CLIP, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.system.tools import find_tool
from tests.made.tflite import small_artifact

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")]

PLAIN = FrontendConfig(clip_samples=1000, window_length=64, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4)
ASKING = FrontendConfig(
    clip_samples=900, window_length=100, hop_length=50, n_fft=128, n_mels=9, n_mfcc=3,
    spectrum="magnitude", log_guard="clamp", log_scale="decibel",
)  # fmt: skip


def archive(folder: Path, prefix: str, model: CompiledModel) -> Path:
    """Return a build's library, as each ecosystem makes one of its sources."""
    files = generate_project(model, find_target("host"), prefix, 3)
    for name, text in files.items():
        if name.endswith((".c", ".h")) and not name.startswith("board/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(str(text))
    sources = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.c"))]
    command = ["gcc", "-std=c99", "-O1", "-c", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    run([*command, "-pedantic", "-Isrc", "-Iinclude", "-Igenerated", *sources], folder)
    run(["ar", "rcs", "library.a", *(f"{Path(source).stem}.o" for source in sources)], folder)
    return folder / "library.a"


def run(command: list[str], folder: Path) -> str:
    """Return what a command prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_order_of_the_libraries(tmp_path: Path) -> None:
    rng_state, drawn, expected, archives = 1, [], "", {}
    for _ in range(1000):
        rng_state = (rng_state * 1664525 + 1013904223) % (1 << 32)
        drawn.append((rng_state >> 16) - 32768)
    for prefix, config in (("left", PLAIN), ("right", ASKING)):
        model = parse_model(small_artifact(config), prefix)
        archives[prefix] = archive(tmp_path / prefix, prefix, model)
        item = Item(ITEM_CLIP, np.array(drawn[: config.clip_samples], np.int16))
        result = SimEngine(model).run([item])[0][0]
        expected += " ".join([prefix, model.labels[result.label], *map(str, result.logits.tolist())]) + "\n"
    includes = [f"-I{tmp_path / prefix / part}" for prefix in archives for part in ("include", "src")]
    command = ["gcc", *includes, str(Path(__file__).parent / "two_models.c"), "-o", "both"]
    run([*command, str(archives["right"]), str(archives["left"])], tmp_path)
    assert run(["./both"], tmp_path) == expected
    wrong = subprocess.run(
        [*command, *map(str, archives.values())], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert wrong.returncode != 0 and "mbx_frame_coefficients" in wrong.stderr
