"""Quantization-aware fine-tuning: the network learns, for an epoch or two, to compute well with int8's roundings.

QuantizedNetwork rounds weights and activations where the int8 network does; gradients pass through the rounding
unchanged. It learns to say what the trained float network says of the same clips. What comes out is a float network
and a range for each activation, which take the usual road to plain int8 TFLite.

Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018; S. Esser et al., "Learned Step Size Quantization", 2020.
"""

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from mbx_deploy.data.dataset import load_split
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.network.float_network import FloatNetwork, activations
from mbx_deploy.quantization.convert import natural_units
from mbx_deploy.quantization.folded_graph import Step, trace_steps
from mbx_deploy.quantization.ranges import Range
from mbx_deploy.system.scratch import scratch_folder
from mbx_deploy.train.checkpoint import CheckpointInfo
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.evaluation import to_inputs
from mbx_deploy.train.lightning import EngineOptions, KeywordData, build_trainer, quiet, say
from mbx_deploy.train.plan import Batch, EpochBatches

LEARNING_RATE = 2e-4
# Measured on one MatchboxNet 3x1x64 whose ranges were half as wide as they should be, one epoch of 70 steps: the
# logits' rms error of 0.106 became 0.087 with 1e-3, and 0.067 with 1e-2.
RANGE_LEARNING_RATE = 1e-2
# How far two computations of one activation lie apart, over its largest value: float32 sums, 1e-6 where measured.
_SAME = 1e-4


class _Rounded(torch.autograd.Function):
    """An activation in int8's steps between low and high, float32 in and out."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        scale = ((high - low) / 255.0).clamp_min(1e-12)
        zero_point = torch.clamp(torch.round(-128.0 - low / scale), -128.0, 127.0)
        steps = torch.round(values / scale) + zero_point
        below, above = steps < -128.0, steps > 127.0
        rounded = (steps.clamp(-128.0, 127.0) - zero_point) * scale
        ctx.save_for_backward(below, above, (rounded - values) / scale)
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        (gradient,) = gradients
        below, above, residual = ctx.saved_tensors
        within = gradient.masked_fill(below | above, 0.0)
        # Of the scale, for what lies within; what was clipped moves with the end that clipped it.
        of_scale = torch.sum(within * residual) / 255.0
        of_low = torch.sum(gradient * below) - of_scale
        of_high = torch.sum(gradient * above) + of_scale
        return within, of_low, of_high


def round_weights(weights: torch.Tensor) -> torch.Tensor:
    """Return weights (channels, ...) in int8's steps of each channel's largest value over 127; the gradient passes."""
    with torch.no_grad():
        scales = weights.abs().amax(dim=tuple(range(1, weights.ndim)), keepdim=True).clamp_min(1e-12) / 127.0
        error = torch.round(weights / scales) * scales - weights
    return weights + error


class QuantizedNetwork(nn.Module):
    """The network with int8's roundings, float32 (N, C, 1, T) -> (N, classes). rounding: off, it is the network.

    Batch norm stands still: its statistics are folded into the convolution before it, as in the int8 network.
    """

    def __init__(self, network: nn.Module, ranges: Sequence[Range]) -> None:
        """ranges: of the output of each of trace_steps()."""
        super().__init__()
        self.network = network
        self.steps = trace_steps(network)
        self.rounding = True
        if len(ranges) != len(self.steps):
            raise ValueError(f"need {len(self.steps)} ranges, got {len(ranges)}")
        ends = torch.tensor([[each.low, each.high] for each in ranges], dtype=torch.float32)
        self.first_ends: torch.Tensor
        self.register_buffer("first_ends", ends)
        # Logarithms of factors: a step of the optimizer moves every end by the same share of it.
        self.growth = nn.Parameter(torch.zeros_like(ends))

    def ranges(self) -> tuple[Range, ...]:
        """Return the range of each step's output as it was learned."""
        ends = (self.first_ends * torch.exp(self.growth)).detach().double().cpu().numpy()
        return tuple(Range(float(low), float(high)) for low, high in ends)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.run(x)[-1]

    def run(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the output of every step, each rounded to int8; the logits are the last."""
        ends = self.first_ends * torch.exp(self.growth)
        values: dict[str, torch.Tensor] = {}
        for step, (low, high) in zip(self.steps, ends, strict=True):
            value = self._compute(step, [values[name] for name in step.inputs] or [x])
            if self.rounding:
                value = _Rounded.apply(value, low, high)  # type: ignore[no-untyped-call]  # PyTorch leaves it so
            values[step.output] = value
        return list(values.values())

    def _compute(self, step: Step, inputs: list[torch.Tensor]) -> torch.Tensor:
        value = inputs[0]
        if step.kind == "convolution":
            value = self._convolve(step, value)
        elif step.kind == "linear":
            weights = step.module.weight
            value = nn.functional.linear(value, self._rounded(weights), step.module.bias)
        elif step.kind == "add":
            value = inputs[0] + inputs[1]
        elif step.kind == "mean":
            value = value.mean(dim=(2, 3))
        return torch.relu(value) if step.rectified else value

    def _convolve(self, step: Step, value: torch.Tensor) -> torch.Tensor:
        convolution, norm = step.module, step.norm
        weights, bias = convolution.weight, convolution.bias
        if norm is not None:
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weights = weights * factor[:, None, None, None]
            shift = -norm.running_mean if bias is None else bias - norm.running_mean
            bias = norm.bias + shift * factor
        # By the module's own forward(), which may be faster than conv2d() in training.
        plain = {"weight": self._rounded(weights)}
        if convolution.bias is not None:
            plain["bias"] = torch.zeros_like(convolution.bias)
        value = torch.func.functional_call(convolution, plain, (value,))
        return value if bias is None else value + bias[:, None, None]

    def _rounded(self, weights: torch.Tensor) -> torch.Tensor:
        return round_weights(weights) if self.rounding else weights


def quantize_network(
    network: nn.Module, reference: FloatNetwork, ranges: Sequence[Range], features: np.ndarray
) -> tuple[QuantizedNetwork, tuple[int, ...]]:
    """Return the network with int8's roundings, and which of its steps makes each activation of the reference.

    reference: the same network as the converter sees it; ranges: of its activations. Activations are matched by what
    they are on a clip, features float32 (1, T, C), whatever their names and order.
    Raises CheckFailed where they do not match one to one.
    """
    probe = QuantizedNetwork(network, [Range(0.0, 0.0)] * len(trace_steps(network))).eval()
    probe.rounding = False
    with torch.no_grad():
        found = [_flat(value) for value in probe.run(to_inputs(features))]
    order: list[int] = []
    for number, values in enumerate(activations(reference, features)):
        wanted = values.ravel()
        bound = _SAME * np.abs(wanted).max()
        left = [step for step in range(len(found)) if step not in order and found[step].shape == wanted.shape]
        same = [step for step in left if np.abs(found[step] - wanted).max() <= bound]
        if not same:
            raise CheckFailed(f"the networks differ: no layer in PyTorch computes the converter's activation {number}")
        order.append(same[0])
    if len(order) != len(found):
        raise CheckFailed(f"the networks differ: got {len(found)} activations in PyTorch, {len(order)} in TFLite")
    return QuantizedNetwork(network, [ranges[order.index(step)] for step in range(len(found))]), tuple(order)


def _flat(value: torch.Tensor) -> np.ndarray:
    """Return the values in the order of NHWC."""
    return np.asarray(value.movedim(1, -1).double().numpy()).ravel()


@dataclass(frozen=True)
class QatResult:
    """What fine-tuning gave: the float network, and the ranges of its activations in the reference's order.

    first_loss, last_loss: distance from the float network's answers, mean over the first and the last tenth.
    """

    module: nn.Module
    ranges: tuple[Range, ...]
    steps: int
    first_loss: float
    last_loss: float


class QatModule(pl.LightningModule):
    """Fine-tunes a QuantizedNetwork towards a teacher's answers."""

    def __init__(self, student: QuantizedNetwork, teacher: nn.Module, steps: int) -> None:
        """steps: of the whole run."""
        super().__init__()
        self.student = student.train()
        self.steps = steps
        # In a list: no part of the module, so it is neither trained nor saved.
        self._teachers = [teacher.eval()]
        self.losses: list[float] = []

    def on_fit_start(self) -> None:
        """Move the teacher to where the network is."""
        self._teachers[0].to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch, the Kullback-Leibler divergence. Raises CheckFailed where it is not finite."""
        inputs, _ = batch
        with torch.no_grad():
            wanted = torch.log_softmax(self._teachers[0](inputs), dim=1)
        found = torch.log_softmax(self.student(inputs), dim=1)
        loss = nn.functional.kl_div(found, wanted, log_target=True, reduction="batchmean")
        self.losses.append(float(loss.detach()))
        if not math.isfinite(self.losses[-1]):
            raise CheckFailed(f"fine-tuning diverged (step {len(self.losses)}): loss is {self.losses[-1]}")
        return loss

    def on_train_epoch_end(self) -> None:
        """Say how far it is."""
        done = len(self.losses) * self.trainer.max_epochs // self.steps  # type: ignore[operator]
        some = self.losses[-max(self.steps // 10, 1) :]
        say(f"fine-tuning, epoch {done}/{self.trainer.max_epochs}: distance from float {np.mean(some):.5f}")

    def configure_optimizers(self) -> Any:
        """Return Adam; the rates fall to zero in half a cosine."""
        groups: list[dict[str, Any]] = [
            {"params": list(self.student.network.parameters()), "lr": LEARNING_RATE},
            {"params": [self.student.growth], "lr": RANGE_LEARNING_RATE},
        ]
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step / self.steps, 1.0)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fine_tune(
    module: nn.Module,
    info: CheckpointInfo,
    reference: FloatNetwork,
    ranges: Sequence[Range],
    data_root: Path,
    epochs: int,
    options: EngineOptions | None = None,
) -> QatResult:
    """Return the network fine-tuned for int8 on the training split, augmented as it was when it was trained.

    module: the trained network; it stays as it is. reference: what the converter made of it. ranges: of the
    reference's activations, where learning begins. Sets torch's number of threads.

    Raises InputError for bad data. CheckFailed: the loss is not finite, or the network has a layer of a kind that this
    does not know.
    """
    config = _config(info, epochs)
    torch.set_num_threads(config.threads)
    training = load_split(data_root, "training", config.labels, config.frontend.clip_samples)
    front_end = HostFrontend(config.frontend)
    features = natural_units(front_end.coefficients(training.samples[:1]))
    # Channels last is a quarter faster on a CPU, and the order in which features come.
    own, teacher = (copy.deepcopy(module).to(memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
    student, order = quantize_network(own, reference, ranges, features)
    source = EpochBatches(config, training, front_end)
    tuning = QatModule(student, teacher, source.steps() * epochs)
    with quiet(), scratch_folder() as folder:
        trainer = build_trainer(config, Path(folder), options or EngineOptions(), [])
        try:
            trainer.fit(tuning, KeywordData(source))
        except SystemExit:  # what Lightning makes of Ctrl-C
            if trainer.interrupted:
                raise KeyboardInterrupt from None
            raise
    learned = student.cpu().ranges()
    some = max(len(tuning.losses) // 10, 1)
    first, last = (float(np.mean(part)) for part in (tuning.losses[:some], tuning.losses[-some:]))
    return QatResult(student.network.eval(), tuple(learned[step] for step in order), len(tuning.losses), first, last)


def _config(info: CheckpointInfo, epochs: int) -> TrainConfig:
    """Return the configuration of the checkpoint's training; that of the defaults where it does not say."""
    shape: dict[str, Any] = {"labels": info.labels, "model": info.model_config, "frontend": info.frontend}
    try:
        config = TrainConfig.from_dict(info.provenance.get("training", {}))
    except InputError:  # written by another version, or of another kind of training
        config = TrainConfig()
    return dataclasses.replace(config, **shape, epochs=epochs, teacher="")
