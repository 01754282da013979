"""Fixtures that all tests share: where the data lies, and the shipped model with its builds."""

from pathlib import Path

import pytest

from mbx_deploy.build import Build, build, load_build
from mbx_deploy.pretrained import shipped_model_path
from mbx_deploy.recognizer import Recognizer, load_recognizer
from mbx_deploy.target import find_target

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
def shipped() -> Recognizer:
    """The shipped model."""
    return load_recognizer(shipped_model_path())


@pytest.fixture(scope="session")
def m4_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The shipped model, built for the Cortex-M4."""
    folder = tmp_path_factory.mktemp("builds") / "cortex-m4"
    build(shipped_model_path(), find_target("cortex-m4"), folder)
    return load_build(folder)
