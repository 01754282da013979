"""The training engine: MatchboxNet, its data and the run's files as PyTorch Lightning knows them.

Lightning owns devices, nodes, precision and the loop; what an epoch is and what is kept of it is
decided here. No state is kept outside the checkpoint that it writes.
"""

import copy
import csv
import dataclasses
import importlib.util
import io
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from torch import nn

from mbx_deploy.data.accuracy import Evaluation, measure
from mbx_deploy.data.dataset import Split
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.system.files import write_file
from mbx_deploy.system.terminal import unshielded
from mbx_deploy.train.checkpoint import CheckpointInfo, load_torch, save_checkpoint, save_torch
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.evaluation import predict
from mbx_deploy.train.matchboxnet import MatchboxNet, build_matchboxnet, prepare_for_answers
from mbx_deploy.train.mining import Mined
from mbx_deploy.train.optimizers import build_optimizer, learning_rate_at, move_average
from mbx_deploy.train.plan import Batch, EpochBatches


class KeywordModule(pl.LightningModule):
    """The network under training, its loss, optimizer and learning rate."""

    def __init__(
        self, config: TrainConfig, steps: int, teacher: MatchboxNet | None = None, initial: MatchboxNet | None = None
    ) -> None:
        """steps: optimizer steps of the whole run. The weights are initial's, or drawn by the configuration's seed."""
        super().__init__()
        self.config = config
        self.steps = steps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            # Channels last is a quarter faster on a CPU, and the order in which features come.
            self.network = copy.deepcopy(initial) if initial else build_matchboxnet(config.model)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # In a list: no part of the module, so it is neither trained nor saved.
        self._teachers = [prepare_for_answers(teacher)] if teacher else []
        self.epoch_losses: list[float] = []

    def on_fit_start(self) -> None:
        """Move the teacher to where the network is."""
        for teacher in self._teachers:
            teacher.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Forget the losses of the epoch before."""
        self.epoch_losses = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch. Raises CheckFailed where it is not finite."""
        inputs, classes, *taught = batch
        config = self.config
        logits = self.network(inputs)
        loss = nn.functional.cross_entropy(logits, classes, label_smoothing=config.label_smoothing)
        if taught:
            loss = _taught_loss(config, logits, classes, taught[0])
        for teacher in self._teachers:
            with torch.no_grad():
                wanted = torch.log_softmax(teacher(inputs).float() / config.teacher_temperature, dim=1)
            found = torch.log_softmax(logits.float() / config.teacher_temperature, dim=1)
            # Source: G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
            distance = nn.functional.kl_div(found, wanted, log_target=True, reduction="batchmean")
            weight = config.teacher_weight
            loss = (1.0 - weight) * loss + weight * config.teacher_temperature**2 * distance
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CheckFailed(
                f"training diverged (epoch {self.current_epoch + 1}, step {batch_idx + 1}): loss is {value}",
                "use a smaller learning_rate",
            )
        self.epoch_losses.append(value)
        return loss

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the learning rate of every step."""
        optimizer = build_optimizer(self.config, self.network)
        full = self.config.learning_rate or 1.0

        def share(step: int) -> float:
            return learning_rate_at(self.config, step, self.steps) / full

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _taught_loss(
    config: TrainConfig, logits: torch.Tensor, classes: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    """Return the loss of a batch of which a windowed teacher has heard a part: rows of wanted that are no NaN."""
    own = nn.functional.cross_entropy(logits, classes, label_smoothing=config.label_smoothing, reduction="none")
    heard = torch.isfinite(wanted[:, 0])
    found = torch.log_softmax(logits.float() / config.teacher_temperature, dim=1)
    distance = nn.functional.kl_div(found[heard], wanted[heard], log_target=True, reduction="none").sum(dim=1)
    weight = config.teacher_weight
    mixed = (1.0 - weight) * own[heard] + weight * config.teacher_temperature**2 * distance
    return (own[~heard].sum() + mixed.sum()) / len(classes)


class _TrainingBatches:
    """What Lightning iterates over: this process's batches of the trainer's current epoch."""

    def __init__(self, source: EpochBatches, trainer: pl.Trainer) -> None:
        self.source = source
        self.trainer = trainer

    def __len__(self) -> int:
        return self.source.steps()

    def __iter__(self) -> Iterator[Batch]:
        trainer = self.trainer
        yield from self.source.batches(trainer.current_epoch, trainer.global_rank, trainer.world_size)


class KeywordData(pl.LightningDataModule):
    """The training clips, a plan an epoch, divided among the processes."""

    def __init__(self, source: EpochBatches) -> None:
        super().__init__()
        self.source = source

    def train_dataloader(self) -> Any:
        """Return the batches. Raises InputError where the processes cannot share them evenly."""
        assert self.trainer is not None
        size = self.source.batch_size()
        if size % self.trainer.world_size or size // self.trainer.world_size < 2:
            raise InputError(
                f"bad training (batch_size): got {size} clips for {self.trainer.world_size} processes, "
                "need a multiple, two or more each"
            )
        return _TrainingBatches(self.source, self.trainer)


class AverageWeights(Callback):
    """Keeps the running average of the weights: the model that is measured and kept."""

    def __init__(self, network: MatchboxNet, decay: float) -> None:
        self.average = copy.deepcopy(network)
        self.decay = decay

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the average to where the network is."""
        self.average.to(pl_module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Move the average after a step."""
        assert isinstance(pl_module, KeywordModule)
        move_average(self.average, pl_module.network, self.decay, trainer.global_step - 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights."""
        return dict(self.average.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the weights that state_dict() gave."""
        self.average.load_state_dict(state_dict)


@dataclass
class RunRecord:
    """What is known of a run's epochs. history: {"loss", "evaluation"} of each epoch."""

    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> Evaluation | None:
        """Return the best epoch's measure on validation."""
        return Evaluation(**self.history[self.best_epoch - 1]["evaluation"]) if self.best_epoch else None


class RunKeeper(Callback):
    """Measures every epoch on validation, and keeps the run's files: the best model, the state to go
    on from, the measures.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        average: AverageWeights,
        validation: Split,
        inputs: torch.Tensor,
        provenance: dict[str, Any],
        on_step: Callable[[int, int], None] | None = None,
        source: EpochBatches | None = None,
    ) -> None:
        """inputs: the validation clips' features, float32 (N, C, 1, T). provenance: what every model
        file of the run says. source: whose hard draws are mined and kept.
        """
        self.config = config
        self.folder = folder
        self.average = average
        self.validation = validation
        self.inputs = inputs
        self.provenance = provenance
        self.on_step = on_step
        self.source = source
        self.record = RunRecord()
        self._started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the time."""
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell the listener."""
        if self.on_step:
            self.on_step(trainer.current_epoch, batch_idx)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure and keep the epoch."""
        assert isinstance(pl_module, KeywordModule)
        losses = torch.tensor(pl_module.epoch_losses, dtype=torch.float64, device=pl_module.device)
        loss = float(trainer.strategy.reduce(losses.mean(), reduce_op="mean"))
        # Epochs are kept in this order, so that a process killed in between goes on from one that
        # names a best.pt which exists.
        if trainer.is_global_zero:
            self._measure(loss)
        if self.source and self.source.mining:
            if trainer.is_global_zero:
                self.source.mine(trainer.current_epoch, self.average.average)
            self.source.mined = trainer.strategy.broadcast(self.source.mined)
        trainer.save_checkpoint(self.folder / "state.pt")
        if trainer.is_global_zero:
            write_file(self.folder / "metrics.csv", render_metrics(self.record.history))
            self._report(trainer, loss)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the other processes what the first one measured."""
        self.record = RunRecord(**trainer.strategy.broadcast(dict(vars(self.record))))

    def _measure(self, loss: float) -> None:
        record = self.record
        found = measure(predict(self.average.average, self.inputs), self.validation)
        best = record.best
        record.history.append({"loss": loss, "evaluation": dataclasses.asdict(found)})
        # What was the best before the choice begins is kept until then only.
        begins = record.best_epoch < self.config.first_choice <= len(record.history)
        if best is None or begins or found.score > best.score:
            record.best_epoch = len(record.history)
            config = self.config
            provenance = {**self.provenance, "epoch": record.best_epoch, "validation": dataclasses.asdict(found)}
            info = CheckpointInfo(config.model, config.frontend, config.labels, provenance)
            save_checkpoint(self.folder / "best.pt", copy.deepcopy(self.average.average).cpu(), info)

    def _report(self, trainer: pl.Trainer, loss: float) -> None:
        record = self.record
        found = record.history[-1]["evaluation"]
        epoch = len(record.history)
        for logger in trainer.loggers:
            values = {"loss": loss, **{k: v for k, v in found.items() if k.endswith("_accuracy")}}
            logger.log_metrics(values, step=epoch)
        say(
            f"epoch {epoch}/{self.config.last_epoch}: loss {loss:.4f}, validation: command words "
            f"{100 * found['command_accuracy']:.2f} %, balanced {100 * found['balanced_accuracy']:.2f} %"
            f"{' (best)' if epoch == record.best_epoch else ''}, {time.monotonic() - self._started:.1f} s"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what going on needs besides weights."""
        return {
            "config": self.config.to_dict(),
            "data_digest": self.provenance["data_digest"],
            "teacher_digest": self.provenance.get("teacher_digest", ""),
            **vars(self.record),
            **({"mined": self.source.mined.to_state()} if self.source and self.source.mining else {}),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the record that state_dict() gave."""
        self.record = RunRecord(int(state_dict["best_epoch"]), list(state_dict["history"]))
        if self.source and "mined" in state_dict:
            self.source.mined = Mined.from_state(state_dict["mined"])


class WholeFiles(CheckpointIO):
    """Writes Lightning's checkpoints whole or not at all, and reads none that holds code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the checkpoint beside path, then rename."""
        save_torch(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the checkpoint, on the CPU. Raises InputError for a damaged file."""
        return load_torch(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file."""
        Path(path).unlink(missing_ok=True)


class _Bar(TQDMProgressBar):
    """Lightning's bar on stderr: stdout is for results."""

    def init_train_tqdm(self) -> Tqdm:
        return Tqdm(
            desc=self.train_description,
            disable=self.is_disabled,
            leave=False,
            dynamic_ncols=True,
            file=unshielded(sys.stderr),
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )


@dataclass(frozen=True)
class EngineOptions:
    """On what a run is trained; the names and values are those of Lightning's Trainer."""

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    precision: str = "32-true"


def build_trainer(config: TrainConfig, folder: Path, options: EngineOptions, callbacks: list[Callback]) -> pl.Trainer:
    """Return Lightning's trainer, its own talk and files off. Raises InputError for options that this
    machine does not have.
    """
    several = options.num_nodes > 1 or (isinstance(options.devices, int) and options.devices > 1)
    bar = sys.stderr.isatty()
    try:
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            precision=options.precision,  # type: ignore[arg-type]
            strategy="ddp" if several else "auto",
            max_epochs=config.last_epoch,
            callbacks=[*callbacks, *([_Bar()] if bar else [])],
            plugins=[WholeFiles()],
            logger=_tensorboard(folder),
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bar,
            # Validation is a callback's: it measures the averaged weights.
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    # Lightning has no exception of its own for an accelerator, number or precision it cannot have.
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot train on these devices ({dataclasses.asdict(options)}): {reason:.200}") from error


def _tensorboard(folder: Path) -> Any:
    if not importlib.util.find_spec("tensorboard"):
        return False
    from pytorch_lightning.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="")


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Silence Lightning's advice, greetings and warnings of what is meant to be so."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning_utilities")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)\..*")
            warnings.filterwarnings("ignore", message=r".*lr_scheduler\.step\(\).*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def render_metrics(history: list[dict[str, Any]]) -> str:
    """Return CSV, one row an epoch."""
    text = io.StringIO()
    labels = list(history[0]["evaluation"]["recall"])
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "loss", "command_accuracy", "balanced_accuracy", *(f"recall_{n}" for n in labels)])
    for number, row in enumerate(history, start=1):
        found = row["evaluation"]
        values = [row["loss"], found["command_accuracy"], found["balanced_accuracy"]]
        values += [found["recall"][label] for label in labels]
        writer.writerow([number, *(f"{value:.6f}" for value in values)])
    return text.getvalue()


def say(line: str) -> None:
    """Print a line on stderr, above a progress bar where there is one."""
    if sys.stderr.isatty():
        Tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)
