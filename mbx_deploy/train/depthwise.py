"""A depthwise 1 x k convolution that trains fast on a CPU.

It is nn.Conv2d in weights, names and results. PyTorch's kernels are slow in two places, which were
half of a training step: a dilated depthwise convolution, here one of no dilation over interleaved
frames, and the gradient of the weights, here a few lines of C. A GPU, other types and evaluation
get PyTorch's own.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mbx_deploy.errors import ToolMissing
from mbx_deploy.system.tools import compile_shared_library

_LANES = 8


class Depthwise(nn.Conv2d):
    """Depthwise 1 x k without bias: (N, C, 1, T) -> (N, C, 1, T) with "same" padding; with valid, without padding,
    (N, C, 1, T - dilation * (k - 1)).

    fast_evaluation: whether evaluation without gradients takes the fast way too, which is no single
    operation and so not for a network that is exported.
    """

    fast_evaluation = False

    def __init__(self, channels: int, kernel: int, dilation: int = 1, valid: bool = False) -> None:
        reach = dilation * (kernel - 1) // 2
        super().__init__(
            channels,
            channels,
            (1, kernel),
            padding=(0, 0 if valid else reach),
            dilation=(1, dilation),
            groups=channels,
            bias=False,
        )
        self.cropped_frames = reach if valid else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return nn.Conv2d's result, while training on a CPU but for the rounding of the sums."""
        if self.fast_evaluation and not self.training and not torch.is_grad_enabled():
            return _correlate(x, self.weight, self.dilation[1], self.cropped_frames)
        plain = x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        if plain or not self.training or self.in_channels % _LANES or _weight_gradient() is None:
            return super().forward(x)
        convolved: torch.Tensor = _DepthwiseFunction.apply(  # type: ignore[no-untyped-call]  # PyTorch leaves it so
            x, self.weight, self.dilation[1], self.cropped_frames
        )
        return convolved


class _DepthwiseFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, dilation: int, crop: int) -> torch.Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.dilation, ctx.crop = dilation, crop
        return _correlate(x, weight, dilation, crop)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _correlate(gradient, weight.flip(3), ctx.dilation, -ctx.crop)
        if ctx.needs_input_grad[1]:
            clips, channels, _, frames = x.shape
            taps = weight.shape[3]
            sums = torch.empty(taps, channels)
            run = _weight_gradient()
            sizes = (clips, frames, channels, taps, ctx.dilation, ctx.crop)
            if run is None or run(x.data_ptr(), gradient.data_ptr(), sums.data_ptr(), *sizes):
                raise MemoryError("no memory for a gradient")
            to_weight = sums.t().reshape(weight.shape)
        return to_x, to_weight, None, None


def _correlate(x: torch.Tensor, weight: torch.Tensor, dilation: int, crop: int) -> torch.Tensor:
    """Return the depthwise convolution of (N, C, 1, T), channels last, with (C, 1, 1, k): (N, C, 1, T - 2 * crop).

    crop: 0 for "same" padding; dilation * (k - 1) / 2 for none; as much below 0 for twice as much as "same".
    """
    taps, channels, frames = weight.shape[3], x.shape[1], x.shape[3]
    padding = taps // 2 - crop // dilation
    if dilation == 1:
        return nn.functional.conv2d(x, weight, padding=(0, padding), groups=channels)
    # Frame q * dilation + r becomes row q, column r: its dilated neighbours are the rows above and below.
    rows = -(-frames // dilation)
    padded = nn.functional.pad(x[:, :, 0].permute(0, 2, 1), (0, 0, 0, rows * dilation - frames))
    grid = padded.reshape(len(x), rows, dilation, channels).permute(0, 3, 1, 2)
    out = nn.functional.conv2d(grid, weight.permute(0, 1, 3, 2), padding=(padding, 0), groups=channels)
    kept = frames - 2 * crop
    out = out.permute(0, 2, 3, 1).reshape(len(x), -1, channels)[:, :kept].contiguous()
    return out.permute(0, 2, 1).unsqueeze(2)


@functools.cache
def _weight_gradient() -> Any:
    """Return the C function, None where there is no compiler."""
    source = Path(__file__).with_suffix(".c").read_text(encoding="utf-8")
    try:
        library = ctypes.CDLL(str(compile_shared_library({"depthwise.c": source})))
    except (ToolMissing, OSError):
        return None
    run = library.mbx_depthwise_weight_gradient
    run.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_long] * 6
    run.restype = ctypes.c_int
    return run
