"""The training loop: a run can be stopped at any moment and goes on to the same weights.

A run folder holds state.pt (all that going on needs), best.pt (the best epoch so far on
validation), metrics.csv and, at the end, model.pt. Each file is written whole or not at all. All
random draws of an epoch follow from (seed, epoch).
"""

import copy
import csv
import dataclasses
import hashlib
import io
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mbx_deploy.errors import CheckFailed, InputError, MbxError
from mbx_deploy.host_frontend import HostFrontend
from mbx_deploy.output import write_file
from mbx_deploy.train.augment import augment_clips, float_features, mask_features
from mbx_deploy.train.checkpoint import (
    CheckpointInfo,
    load_checkpoint,
    load_torch,
    save_checkpoint,
    save_torch,
)
from mbx_deploy.train.config import TrainConfig, load_train_config
from mbx_deploy.train.dataset import (
    SILENCE,
    UNKNOWN,
    Split,
    command_words,
    load_split,
    silence_clips,
)
from mbx_deploy.train.evaluation import (
    Evaluation,
    clip_inputs,
    evaluate,
    measure,
    predict,
    to_inputs,
)
from mbx_deploy.train.model import MatchboxNet, build_matchboxnet

__all__ = [
    "CheckpointInfo",
    "Evaluation",
    "TrainConfig",
    "TrainSummary",
    "TrainingInterrupted",
    "evaluate",
    "load_checkpoint",
    "load_train_config",
    "save_checkpoint",
    "train",
]

STATE_FORMAT = "mbx-deploy-train-1"
_BATCHES_AHEAD = 4
_RUN_FILES = ("state.pt", "best.pt", "metrics.csv", "model.pt")


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
) -> TrainSummary:
    """Train in run_folder, or go on where a run stopped there, and return the best epoch's measure.

    resume: False begins anew over what the folder holds. on_step(epoch, step) is called after each
    step, for tests and tools. Sets torch's number of threads. Raises InputError for bad data and
    for a folder that holds a run of another configuration, CheckFailed where the loss is not
    finite, TrainingInterrupted on Ctrl-C.
    """
    run_folder = Path(run_folder)
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the run folder ({run_folder}): {error.strerror}") from error
    try:
        return _train(config, Path(data_root), run_folder, resume, on_step)
    except KeyboardInterrupt:
        raise TrainingInterrupted(
            f"training stopped ({run_folder}): its finished epochs are kept",
            "the same command goes on from there",
        ) from None


@dataclass
class _Run:
    """What changes while training, and is kept in state.pt."""

    module: MatchboxNet
    average: MatchboxNet
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def _train(
    config: TrainConfig,
    data_root: Path,
    run_folder: Path,
    resume: bool,
    on_step: Callable[[int, int], None] | None,
) -> TrainSummary:
    torch.set_num_threads(config.threads)
    run = _new_run(config)
    training = load_split(data_root, "training", config.labels, config.frontend.clip_samples)
    validation = load_split(data_root, "validation", config.labels, config.frontend.clip_samples)
    _check_clips(training, data_root)
    digest = _data_digest(training, validation)
    state_path = run_folder / "state.pt"
    if not resume:
        for name in _RUN_FILES:
            (run_folder / name).unlink(missing_ok=True)
    if state_path.exists():
        _load_state(state_path, run, config, digest)
        load_checkpoint(run_folder / "best.pt")  # a lost one shall not be noticed at the very end
        _say(f"going on after epoch {run.epoch} of {config.epochs} ({run_folder})")
    front_end = HostFrontend(config.frontend)
    inputs = clip_inputs(front_end, validation.samples)
    best = Evaluation(**run.history[run.best_epoch - 1]["evaluation"]) if run.best_epoch else None
    while run.epoch < config.epochs:
        started = time.monotonic()
        loss = _train_epoch(run, config, training, front_end, on_step)
        run.epoch += 1
        found = measure(predict(run.average, inputs), validation)
        run.history.append({"loss": loss, "evaluation": dataclasses.asdict(found)})
        better = best is None or found.score > best.score
        if better:
            best, run.best_epoch = found, run.epoch
            provenance = {
                "training": config.to_dict(),
                "data_digest": digest,
                "training_clips": len(training),
                "epoch": run.epoch,
                "validation": dataclasses.asdict(found),
                "torch": str(torch.__version__),
            }
            info = CheckpointInfo(config.model, config.frontend, config.labels, provenance)
            save_checkpoint(run_folder / "best.pt", run.average, info)
        _save_state(state_path, run, config, digest)
        _write_metrics(run_folder / "metrics.csv", run.history)
        _say(
            f"epoch {run.epoch}/{config.epochs}: loss {loss:.4f}, validation: command words "
            f"{100 * found.command_accuracy:.2f} %, balanced {100 * found.balanced_accuracy:.2f} %"
            f"{' (best)' if better else ''}, {time.monotonic() - started:.1f} s"
        )
    assert best is not None
    module, info = load_checkpoint(run_folder / "best.pt")
    save_checkpoint(run_folder / "model.pt", module, info)
    return TrainSummary(run_folder / "model.pt", run.epoch, run.best_epoch, best)


def _check_clips(training: Split, data_root: Path) -> None:
    if not command_words(training.labels):
        raise InputError("no words among the labels: got none, need at least one")
    for label in training.labels:
        if label != SILENCE and not len(training.indices_of(label)):
            raise InputError(f"no training clips of {label!r} ({data_root}): need at least one")


def _new_run(config: TrainConfig) -> _Run:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        # Channels last is a quarter faster on a CPU, and the order in which features come.
        module = build_matchboxnet(config.model)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    norms = {id(p) for m in module.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    shrink = [p for p in module.parameters() if id(p) not in norms and p.ndim > 1]
    keep = [p for p in module.parameters() if id(p) in norms or p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": shrink}, {"params": keep, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay)
    return _Run(module, copy.deepcopy(module), optimizer)


def _train_epoch(
    run: _Run,
    config: TrainConfig,
    training: Split,
    front_end: HostFrontend,
    on_step: Callable[[int, int], None] | None,
) -> float:
    """Train one epoch and return its mean loss."""
    run.module.train()
    total = 0.0
    steps = len(_epoch_plan(config, training, run.epoch))
    with closing(_batches(config, training, run.epoch, front_end)) as batches:
        for step, (inputs, classes) in enumerate(batches):
            number = run.epoch * steps + step
            for group in run.optimizer.param_groups:
                group["lr"] = learning_rate_at(config, number, steps * config.epochs)
            logits = run.module(inputs)
            loss = nn.functional.cross_entropy(logits, classes, label_smoothing=config.label_smoothing)
            value = loss.item()
            if not math.isfinite(value):
                raise CheckFailed(
                    f"training diverged (epoch {run.epoch + 1}, step {step + 1}): loss is {value}",
                    "use a smaller learning_rate",
                )
            run.optimizer.zero_grad()
            loss.backward()
            run.optimizer.step()
            # A short memory at first, so that the average forgets the random weights it began with.
            _average(run.average, run.module, min(config.ema_decay, (1 + number) / (10 + number)))
            total += value
            if sys.stderr.isatty():
                where = f"epoch {run.epoch + 1}/{config.epochs}: step {step + 1}/{steps}"
                print(f"\r{where}, loss {value:.3f} ", end="", file=sys.stderr, flush=True)
            if on_step:
                on_step(run.epoch, step)
    return total / steps


def learning_rate_at(config: TrainConfig, step: int, steps: int) -> float:
    """Return the rate of a step: a straight rise over the first warmup_fraction of all steps, then
    half a cosine to 0.
    """
    warmup = max(round(config.warmup_fraction * steps), 1)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def _epoch_plan(config: TrainConfig, training: Split, epoch: int) -> np.ndarray:
    """Return the clips of each step, int64 (steps, batch_size): indices into the split, -1 for a
    silence clip.
    """
    rng = np.random.default_rng([config.seed, epoch])
    words = [training.indices_of(word) for word in command_words(config.labels)]
    mean_count = sum(len(word) for word in words) / max(len(words), 1)
    unknown = training.indices_of(UNKNOWN)
    drawn = rng.permutation(unknown)[: round(config.unknown_ratio * mean_count)]
    silent = round(config.silence_ratio * mean_count) if SILENCE in config.labels else 0
    plan = rng.permutation(np.concatenate([*words, drawn, np.full(silent, -1)]).astype(np.int64))
    size = min(config.batch_size, len(plan))
    return plan[: len(plan) // size * size].reshape(-1, size)


def _batches(
    config: TrainConfig, training: Split, epoch: int, front_end: HostFrontend
) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
    """Yield (inputs, classes) of each step of the epoch; a thread prepares a few batches ahead."""

    def prepare(step: int, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([config.seed, epoch, step])
        clips = training.samples[chosen]
        classes = training.classes[chosen]
        silent = chosen < 0
        if silent.any():
            clips[silent] = silence_clips(training.noise, int(silent.sum()), rng, clips.shape[1])
            classes[silent] = training.labels.index(SILENCE)
        clips = augment_clips(clips, training.noise, config.augment, rng)
        features = mask_features(float_features(front_end, clips), config.augment, rng)
        return to_inputs(features), torch.from_numpy(classes)

    pool = ThreadPoolExecutor(1)
    waiting: deque[Future[tuple[torch.Tensor, torch.Tensor]]] = deque()
    try:
        for step, chosen in enumerate(_epoch_plan(config, training, epoch)):
            waiting.append(pool.submit(prepare, step, chosen))
            if len(waiting) > _BATCHES_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@torch.no_grad()
def _average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the average towards the module: weights and batch norm's statistics alike."""
    old, new = average.state_dict(), module.state_dict()
    moving = [name for name, value in old.items() if value.is_floating_point()]
    torch._foreach_lerp_([old[n] for n in moving], [new[n] for n in moving], 1.0 - decay)
    for name in set(old) - set(moving):
        old[name].copy_(new[name])


def _data_digest(*splits: Split) -> str:
    """Return a digest of which clips the splits hold, not of their samples."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(("\n".join(split.names) + "\n\n").encode())
    return digest.hexdigest()


def _save_state(path: Path, run: _Run, config: TrainConfig, digest: str) -> None:
    state = {
        "format": STATE_FORMAT,
        "config": config.to_dict(),
        "data_digest": digest,
        "model": run.module.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "epoch": run.epoch,
        "best_epoch": run.best_epoch,
        "history": run.history,
    }
    save_torch(path, state)


def _load_state(path: Path, run: _Run, config: TrainConfig, digest: str) -> None:
    """Fill run from state.pt. Raises InputError for a damaged file, or one of another configuration
    or data set.
    """
    state = load_torch(path)
    hint = "use another run folder, or begin anew without resuming"
    if state.get("format") != STATE_FORMAT:
        raise InputError(f"not a training state ({path}): need format {STATE_FORMAT!r}", hint)
    old, new = dict(state.get("config", {})), config.to_dict()
    # The number of threads changes how fast a run is, not what it is.
    old["threads"] = new["threads"]
    if old != new:
        key = next(k for k in sorted({*old, *new}) if old.get(k) != new.get(k))
        raise InputError(f"the run folder holds a run of another configuration ({path}): {key!r} differs", hint)
    if state.get("data_digest") != digest:
        raise InputError(f"the run folder holds a run on other clips ({path})", hint)
    try:
        run.module.load_state_dict(state["model"])
        run.average.load_state_dict(state["average"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.epoch, run.best_epoch = int(state["epoch"]), int(state["best_epoch"])
        run.history = list(state["history"])
        if not 1 <= run.best_epoch <= run.epoch == len(run.history):
            raise ValueError("its epochs do not add up")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"damaged training state ({path}): {error!r:.200}", hint) from error


def _write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    """Write one row an epoch."""
    text = io.StringIO()
    labels = list(history[0]["evaluation"]["recall"])
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "loss", "command_accuracy", "balanced_accuracy", *(f"recall_{n}" for n in labels)])
    for number, row in enumerate(history, start=1):
        found = row["evaluation"]
        values = [row["loss"], found["command_accuracy"], found["balanced_accuracy"]]
        values += [found["recall"][label] for label in labels]
        writer.writerow([number, *(f"{value:.6f}" for value in values)])
    write_file(path, text.getvalue())


def _say(line: str) -> None:
    print(f"\r{line}" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)
