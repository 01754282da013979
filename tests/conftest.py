"""Fixtures that all tests share: where the data lies, and the shipped model with its builds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.system.resources import shipped_model_path
from tests.made.compiler_cache import use_compiler_cache

use_compiler_cache()

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _need(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"the data is not here: {folder.parent.name}/{folder.name}, beside the checkout")
    return folder


@pytest.fixture(scope="session")
def speech_commands() -> Path:
    """The folder of Speech Commands clips."""
    return _need(SHARED / "speech_commands")


@pytest.fixture(scope="session")
def shared_nemo() -> Path:
    """The folder of NeMo's checkpoints and golden vectors."""
    return _need(SHARED / "nemo")


@pytest.fixture(scope="session")
def shipped() -> CompiledModel:
    """The shipped model."""
    return load_model(shipped_model_path())


@pytest.fixture(scope="session")
def m4_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The shipped model, built for the Cortex-M4."""
    folder = tmp_path_factory.mktemp("builds") / "cortex-m4"
    build(shipped_model_path(), find_target("cortex-m4"), folder)
    return load_build(folder)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips for testing: yes twice, a tone as go, a word that no label is, eight of noise as left; and noise."""
    root = tmp_path_factory.mktemp("small_data")
    rng = np.random.default_rng(1)
    tone = np.rint(8000 * np.sin(np.arange(16000) / 7)).astype(np.int16)
    noise = rng.normal(0, 300, 5 * 16000).astype(np.int16)
    clips = {"go/b_nohash_0.wav": tone, "bed/c_nohash_0.wav": tone[::-1], "stop/d_nohash_0.wav": tone}
    clips |= {f"left/e_nohash_{n}.wav": rng.normal(0, 3000, 16000).astype(np.int16) for n in range(8)}
    for name, samples in clips.items():
        (root / name).parent.mkdir(exist_ok=True)
        soundfile.write(root / name, samples, 16000)
    (root / "yes").mkdir()
    for speaker in "af":
        shutil.copy(
            Path(__file__).resolve().parents[1] / "examples" / "yes.wav", root / "yes" / f"{speaker}_nohash_0.wav"
        )
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_" / "hum.wav", noise, 16000)
    listed = [name for name in (*clips, "yes/a_nohash_0.wav", "yes/f_nohash_0.wav") if not name.startswith("stop/")]
    (root / "testing_list.txt").write_text("".join(f"{name}\n" for name in listed))
    (root / "validation_list.txt").write_text("")
    return root
