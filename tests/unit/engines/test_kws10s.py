"""The shipped streaming model: its two files are one model."""

from pathlib import Path

import numpy as np

from mbx_deploy.compiler.model import load_model
from mbx_deploy.network.metadata import read_metadata
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.train.checkpoint import load_checkpoint, weights_digest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def test_the_checkpoint_is_what_the_file_was_made_of() -> None:
    path = shipped_model_path("kws10s")
    metadata = read_metadata(path.read_bytes())
    network, info = load_checkpoint(path.with_suffix(".pt"))
    assert metadata is not None
    assert weights_digest(network) == metadata["training"]["weights_digest"]
    assert list(info.labels) == metadata["labels"]
    assert info.frontend.to_dict() == metadata["frontend"]


def test_it_has_kws10s_labels_and_streams() -> None:
    model, windowed = (load_model(shipped_model_path(name)) for name in ("kws10s", "kws10"))
    assert model.labels == windowed.labels
    assert model.streaming is not None
    assert windowed.streaming is None
    assert np.isfinite(model.program.output_scale)
