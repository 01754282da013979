"""Training: a run can be stopped at any moment and goes on to the same weights.

A run folder holds state.pt (Lightning's checkpoint: all that going on needs), best.pt (the best
epoch so far on validation), metrics.csv and, at the end, model.pt. Each file is written whole or
not at all. All random draws of an epoch follow from (seed, epoch).
"""

import ctypes
import dataclasses
import hashlib
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from mbx_deploy.data.accuracy import Evaluation, speakers
from mbx_deploy.data.dataset import SILENCE, Split, command_words, load_split
from mbx_deploy.data.negatives import Negatives, load_negatives
from mbx_deploy.errors import InputError, MbxError
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.system.version import __version__
from mbx_deploy.train.checkpoint import load_checkpoint, load_torch, save_checkpoint, weights_digest
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.evaluation import split_inputs
from mbx_deploy.train.initial import initial_network, load_exported
from mbx_deploy.train.lightning import (
    AverageWeights,
    EngineOptions,
    KeywordData,
    KeywordModule,
    RunKeeper,
    build_trainer,
    quiet,
    say,
)
from mbx_deploy.train.matchboxnet import MatchboxNet
from mbx_deploy.train.open_world import OpenWorldConfig
from mbx_deploy.train.plan import EpochBatches

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_RUN_FILES = ("state.pt", "best.pt", "metrics.csv", "model.pt")
_HINT = "use another run folder, or begin anew with --restart"


class TrainingInterrupted(MbxError):
    """The user stopped the training; the run folder holds all that going on needs."""

    exit_code = 130


@dataclass(frozen=True)
class TrainSummary:
    """What train() reached: the best epoch on validation is the one in model.pt."""

    model_path: Path
    epochs: int
    best_epoch: int
    validation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON takes it."""
        return {**vars(self), "model_path": str(self.model_path), "validation": dict(vars(self.validation))}


def train(
    config: TrainConfig,
    data_root: Path,
    run_folder: Path,
    resume: bool = True,
    on_step: Callable[[int, int], None] | None = None,
    options: EngineOptions | None = None,
    negatives: Sequence[Path] = (),
) -> TrainSummary:
    """Train in run_folder, or go on where a run stopped there, and return the best epoch's measure.

    negatives: folders of what is no command (data/negatives.py); they make the configuration's open_world the default
    one where it has none.
    resume: False begins anew over what the folder holds. on_step(epoch, step) is called after each
    step, for tests and tools. Sets torch's number of threads. With several devices Lightning starts
    this very command once more for each of them. Raises InputError for bad data and for a folder
    that holds a run of another configuration, CheckFailed where the loss is not finite,
    TrainingInterrupted on Ctrl-C.
    """
    run_folder = Path(run_folder)
    interrupted = TrainingInterrupted(
        f"training stopped ({run_folder}): its finished epochs are kept",
        "the same command goes on from there",
    )
    try:
        if negatives and config.open_world is None:
            config = dataclasses.replace(config, open_world=OpenWorldConfig())
        return _train(config, Path(data_root), run_folder, resume, on_step, options or EngineOptions(), negatives)
    except KeyboardInterrupt:
        raise interrupted from None


def _train(
    config: TrainConfig,
    data_root: Path,
    run_folder: Path,
    resume: bool,
    on_step: Callable[[int, int], None] | None,
    options: EngineOptions,
    negatives: Sequence[Path],
) -> TrainSummary:
    torch.set_num_threads(config.threads)
    _keep_freed_memory()
    teacher, teacher_info = _load_teacher(config)
    training = load_split(data_root, "training", config.labels, config.spoken_samples)
    validation = load_split(data_root, "validation", config.labels, config.spoken_samples)
    _check_clips(training, validation, data_root)
    left_out = config.open_world.left_out if config.open_world else ()
    foreign = load_negatives(negatives, config.labels, left_out)
    provenance = _provenance(config, training, validation, teacher_info, foreign)
    try:  # only now: bad data leave no folder
        run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the run folder ({run_folder}): {error.strerror}") from error
    state_path = run_folder / "state.pt"
    if not resume and is_first_process():
        for name in _RUN_FILES:
            (run_folder / name).unlink(missing_ok=True)
    going_on = state_path.exists()
    if going_on:
        epochs = _check_state(state_path, config, provenance)
        load_checkpoint(run_folder / "best.pt")  # a lost one shall not be noticed at the very end
        if is_first_process():
            say(f"going on after epoch {epochs} of {config.last_epoch} ({run_folder})")
    front_end = HostFrontend(config.frontend)
    source = EpochBatches(config, training, front_end, foreign)
    initial = None if going_on or not config.init else _load_initial(config, source)
    if teacher and teacher.config.streaming != config.model.streaming:
        source.teach(teacher, HostFrontend(dataclasses.replace(config.frontend, clip_samples=config.spoken_samples)))
        teacher = None
    module = KeywordModule(config, source.steps() * config.epochs, teacher, initial)
    average = AverageWeights(module.network, config.ema_decay)
    inputs = split_inputs(config, validation)
    keeper = RunKeeper(config, run_folder, average, validation, inputs, provenance, on_step, source)
    with quiet():
        trainer = build_trainer(config, run_folder, options, [average, keeper])
        _fit(trainer, module, KeywordData(source), state_path if going_on else None)
    record = keeper.record
    if trainer.is_global_zero:
        kept, info = load_checkpoint(run_folder / "best.pt")
        info = dataclasses.replace(info, provenance={**info.provenance, **provenance})
        save_checkpoint(run_folder / "model.pt", kept, info)
    best = record.best
    assert best is not None
    return TrainSummary(run_folder / "model.pt", len(record.history), record.best_epoch, best)


def _keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors for the next step, not give it back: a tenth of a
    step's time.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            for option, size in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, (1 << 31) - 1)):
                mallopt(option, size)


def is_first_process() -> bool:
    """Return whether this process is the one of a run that writes files and talks."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _fit(trainer: pl.Trainer, module: KeywordModule, data: KeywordData, state_path: Path | None) -> None:
    """Run Lightning's loop; its exit on Ctrl-C is KeyboardInterrupt again, with the handler as it was."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, data, ckpt_path=state_path)
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        if state_path and trainer.global_step == 0 and not module.epoch_losses:
            raise InputError(f"damaged training state ({state_path}): {error!r:.200}", _HINT) from error
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


def _check_clips(training: Split, validation: Split, data_root: Path) -> None:
    words = command_words(training.labels)
    if not words:
        raise InputError("no words among the labels: got none, need at least one")
    for label in training.labels:
        if label != SILENCE and not len(training.indices_of(label)):
            raise InputError(f"no training clips of {label!r} ({data_root}): need at least one")
    if not any(len(validation.indices_of(word)) for word in words):
        raise InputError(f"no validation clips of any label ({data_root / 'validation_list.txt'}): need at least one")


def _provenance(
    config: TrainConfig, training: Split, validation: Split, teacher_info: dict[str, Any], foreign: Negatives
) -> dict[str, Any]:
    """Return what every model file of a run says of where it comes from."""
    splits = {"training": training, "validation": validation}
    return {
        # Where the teacher lay is no fact of the model; its own provenance and digest are.
        "training": {**config.to_dict(), "teacher": Path(config.teacher).name, **_named_init(config)},
        "data_source": config.data_source,
        "data_digest": _data_digest(training, validation, foreign),
        "splits": {name: {"clips": len(split), "speakers": len(speakers(split))} for name, split in splits.items()},
        "versions": {
            "mbx_deploy": __version__,
            "torch": str(torch.__version__),
            "pytorch_lightning": version("pytorch-lightning"),
            "numpy": np.__version__,
        },
        **({"init_sha256": _file_digest(Path(config.init))} if config.init else {}),
        **({"negatives": _describe(foreign)} if foreign.digest else {}),
        **teacher_info,
    }


def _named_init(config: TrainConfig) -> dict[str, str]:
    return {"init": Path(config.init).name} if config.init else {}


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read what training begins from ({path}): {error.strerror}") from None


def _describe(foreign: Negatives) -> dict[str, Any]:
    return {
        "words": {source.name: [len(source.words), len(set(source.words))] for source in foreign.sources},
        "recordings": len(foreign.recordings),
        "hours": round(foreign.seconds / 3600.0, 2),
        "digest": foreign.digest,
    }


def _load_initial(config: TrainConfig, source: EpochBatches) -> MatchboxNet:
    """Return the network that the configuration begins from, batch norm at home on the first round's first clips."""
    inputs, _ = next(iter(source.batches(0)))
    return initial_network(Path(config.init), config.model, config.labels, config.frontend, inputs)


def _load_teacher(config: TrainConfig) -> tuple[MatchboxNet | None, dict[str, Any]]:
    """Return the teacher, None without one, and what the provenance says of it."""
    if not config.teacher:
        return None, {}
    path = Path(config.teacher)
    teacher, info = load_exported(path) if path.suffix == ".tflite" else load_checkpoint(path)
    if not isinstance(teacher, MatchboxNet):
        raise InputError(f"the teacher does not fit ({path}): need a MatchboxNet that mbx-deploy trained")
    need = config.frontend
    if config.model.streaming and not teacher.config.streaming:
        need = dataclasses.replace(need, clip_samples=config.spoken_samples)
    if info.labels != config.labels or info.frontend != need:
        raise InputError(f"the teacher does not fit ({path}): its labels or its front end are not the configuration's")
    return teacher, {"teacher_digest": weights_digest(teacher), "teacher": info.provenance}


def _data_digest(training: Split, validation: Split, foreign: Negatives) -> str:
    """Return a digest of which clips the splits hold, not of their samples."""
    digest = hashlib.sha256()
    for split in (training, validation):
        digest.update(("\n".join(split.names) + "\n\n").encode())
    if foreign.digest:
        digest.update(foreign.digest.encode())
    return digest.hexdigest()


def _check_state(path: Path, config: TrainConfig, provenance: dict[str, Any]) -> int:
    """Return the epochs that a state has behind it. Raises InputError for a damaged file, or one of
    another configuration or data set.
    """
    state = load_torch(path)
    kept = state.get("callbacks", {})
    kept = kept.get(RunKeeper.__qualname__) if isinstance(kept, dict) else None
    if not isinstance(kept, dict) or not isinstance(kept.get("config"), dict):
        raise InputError(f"not a training state ({path}): need the checkpoint of a run", _HINT)
    old, new = dict(kept["config"]), config.to_dict()
    # How fast a run is, where its teacher lies and what is told of its data is not what it is.
    for values in (old, new):
        for name in ("threads", "teacher", "init", "data_source"):
            values.pop(name, None)
    if old != new:
        key = next(k for k in sorted({*old, *new}) if old.get(k) != new.get(k))
        raise InputError(f"the run folder holds a run of another configuration ({path}): {key!r} differs", _HINT)
    if kept.get("teacher_digest", "") != provenance.get("teacher_digest", ""):
        raise InputError(f"the run folder holds a run of another teacher ({path})", _HINT)
    if kept.get("data_digest") != provenance["data_digest"]:
        raise InputError(f"the run folder holds a run on other clips ({path})", _HINT)
    history, best_epoch = kept.get("history"), kept.get("best_epoch")
    if not isinstance(history, list) or not isinstance(best_epoch, int) or not 1 <= best_epoch <= len(history):
        raise InputError(f"damaged training state ({path}): its epochs do not add up", _HINT)
    return len(history)
