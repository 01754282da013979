"""The public interface: what a script or a notebook calls. `import mbx_deploy` gives these names, imported late.

A model is named as on the command line: a shipped model's name, or the path of a .tflite or of NeMo's .nemo. All raise
InputError for what the user can mend (a bad file, a target that it does not fit), ToolMissing for a program or package
that is not installed, CheckFailed where a check did not hold; each is an MbxError and says what to do.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.codegen.target import Target, find_target
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.engines import recognize
from mbx_deploy.engines.pretrained import Pretrained as Pretrained
from mbx_deploy.engines.pretrained import from_pretrained as from_pretrained
from mbx_deploy.firmware import build as builder
from mbx_deploy.firmware.build import BuildReport
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.measure import evaluate as evaluation
from mbx_deploy.measure import verify as verifier
from mbx_deploy.measure.items import find_clips
from mbx_deploy.measure.verify import Comparison
from mbx_deploy.nemo.conversion import artifact_of
from mbx_deploy.system.resources import resolve_model

Say = Callable[[str], None]


def _quiet(line: str) -> None:
    """Say nothing of progress."""


def load(model: str | Path, network_only: bool = False) -> CompiledModel:
    """Return a model, read, checked and lowered to the calls of the runtime.

    Its hearing part holds labels and front end; it is None where network_only asks for the network alone, whatever else
    the file holds. Its plan says what lies where in memory; for_kernels() plans for another set of kernels.
    """
    return load_model(artifact_of(resolve_model(str(model))), network_only)


def build(
    model: str | Path, target: str | Target, folder: str | Path, *, say: Say = _quiet, **options: Any
) -> BuildReport:
    """Write the C project of a model for a target, compile it, and return what it needs of flash, RAM and stack.

    target: a name that `mbx-deploy targets` lists, or the path of a .toml. folder: made, or replaced if it is an
    earlier build; it appears whole or not at all. options: prefix, stride_ms, budgets, layout, checkouts, network_only,
    as firmware.build.build() takes them. The report's elf is None where no compiler is installed.
    """
    chosen = target if isinstance(target, Target) else find_target(target)
    return builder.build(artifact_of(resolve_model(str(model))), chosen, Path(folder), progress=say, **options)


def verify(
    folder: str | Path | Build,
    data: str | Path | None = None,
    *,
    clips: int | None = None,
    inputs: np.ndarray | None = None,
) -> Comparison:
    """Return how the engines compare on a build: simulator, C, firmware in the emulator, TFLite Micro, byte for byte.

    data: a data set, or a folder of any recordings, of which at most clips are taken, evenly spread; without it a
    recogniser runs on hostile clips and random features. inputs: int8 (N, *the input's shape), for a build of a network
    alone. The comparison's mismatched_bytes is 0 where all bytes are equal; nothing is raised where they are not.
    """
    made = folder if isinstance(folder, Build) else load_build(Path(folder))
    return verifier.verify(made, find_clips(Path(data), clips) if data is not None else [], inputs)


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    engine: str | None = None,
    split: str = "testing",
    clips: int | None = None,
    say: Say = _quiet,
) -> dict[str, Any]:
    """Return how well a model, or the folder of a build, does on a data set: accuracies, intervals, errors, noise.

    engine: of `mbx-deploy evaluate`; without it C, for a checkpoint floating point. split: training, validation,
    testing, or all. Fractions are of 1; measure.evaluate.evaluate() tells each key.
    """
    options = evaluation.Options(engine=engine, split=split, clips=clips)
    return evaluation.evaluate_model(str(model), Path(data), options, say)


def simulate(
    model: str | Path, recordings: Sequence[str | Path], *, engine: str = "sim", trace: bool = False, say: Say = _quiet
) -> list[dict[str, Any]]:
    """Return what a model hears in each recording: file, label, score, labels, scores, logits, engine.

    scores: in the order of labels, they sum to 1. engine: of `mbx-deploy simulate`. trace: each answer has stages, too:
    name, shape, first values and CRC-32 of what every stage computed.
    """
    return recognize.simulate(resolve_model(str(model)), [Path(path) for path in recordings], engine, trace, say)
