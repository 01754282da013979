"""NeMo's masked network -> ours: of fixed length, without masks, and proven to give the same logits.

A clip of the model's length always has the same valid length L of T frames. The mask zeroes the frames from L on
before every convolution, so a network that ends at frame L and pads with zeros computes the same in the frames before.
What the pooling sees in the T - L frames behind is the same vector c in each of them, whatever the clip: the last
convolution, 1x1 and masked, gives zero there, so c = relu(batch norm of 0), residual branch included. Hence
    the mean over T     is  L / T * (the mean over L) + (T - L) / T * c,
    the maximum over T  is  c + the maximum over L of relu(y - c), since y's own ReLU and c's leave c >= 0,
and both are folded into the weights: the mean into the linear layer, the maximum into the last batch norm and the
linear layer's bias.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.nemo.description import NemoModel
from mbx_deploy.nemo.masked import JasperBlock, MaskedNetwork, SubBlock
from mbx_deploy.nemo.preprocessor import Layout, clip_layout
from mbx_deploy.train.jasper import JasperBlock as OurBlock
from mbx_deploy.train.jasper import JasperBlockConfig, JasperConfig, JasperNet, build_jasper
from mbx_deploy.train.matchboxnet import BATCH_NORM_EPS

LARGEST_ERROR = 1e-5  # of a logit, as a share of the largest; float32 of some ten layers is 1e-6
_PROOF_INPUTS = 8


@dataclass(frozen=True)
class Folded:
    """network: ours, in evaluation mode. frontend: what feeds it. layout: of NeMo's frames. error: relative."""

    network: JasperNet
    frontend: FrontendConfig
    layout: Layout
    error: float


def fixed_clip_samples(model: NemoModel, wanted: int) -> int:
    """Return the samples of the clips that our model takes: those wanted, fewer where NeMo would crop them at random.

    Raises InputError where NeMo refuses clips of that length.
    """
    hop = model.preprocessor.frontend.hop_length
    samples = wanted
    if model.crop_frames is not None and clip_layout(model.preprocessor, model.crop_frames, samples) is None:
        samples = min(wanted, (model.crop_frames - 1) * hop)
        while samples > hop and clip_layout(model.preprocessor, model.crop_frames, samples) is None:
            samples -= hop
    if clip_layout(model.preprocessor, model.crop_frames, samples) is None:
        raise InputError(f"NeMo refuses clips of {samples} samples ({model.path}): need longer ones")
    return samples


def fold(masked: MaskedNetwork, model: NemoModel, clip_samples: int) -> Folded:
    """Return the network of fixed length that gives the masked one's logits for clips of clip_samples.

    Raises InputError for a last block whose masked frames depend on the clip, CheckFailed where the two disagree.
    """
    layout = clip_layout(model.preprocessor, model.crop_frames, clip_samples)
    assert layout is not None
    masks = model.conv_mask and layout.length < layout.total
    frames = layout.length if masks else layout.total
    frontend = _frontend(model, layout, clip_samples, frames)
    blocks = tuple(
        JasperBlockConfig(b.filters, b.repeat, b.kernel, b.dilation, b.residual, b.separable) for b in model.blocks
    )
    config = JasperConfig(len(model.labels), blocks, model.coefficients, frames, model.pooling)
    network = build_jasper(config).eval()
    with torch.no_grad():
        _copy(network, masked)
        if masks:
            _fold_masked_frames(network, masked, model, layout)
    network.requires_grad_(True)
    return Folded(network, frontend, layout, prove_equal(network, masked, layout))


def _frontend(model: NemoModel, layout: Layout, clip_samples: int, frames: int) -> FrontendConfig:
    frontend = replace(model.preprocessor.frontend, clip_samples=clip_samples)
    used = min(layout.features, frames - layout.before)
    return replace(
        frontend,
        pad_frames_before=layout.before,
        pad_frames_after=frames - layout.before - used,
        drop_frames_after=frontend.audio_frames - used,
    )


def _copy(network: JasperNet, masked: MaskedNetwork) -> None:
    for ours, theirs in zip(network.blocks, masked.blocks, strict=True):
        assert isinstance(ours, OurBlock) and isinstance(theirs, JasperBlock)
        for our_part, their_part in zip(_parts(ours), _parts(theirs), strict=True):
            _copy_sub_block(our_part, their_part)
    network.decoder.weight.copy_(masked.get_buffer("weight"))
    network.decoder.bias.copy_(masked.get_buffer("bias"))


def _parts(block: OurBlock | JasperBlock) -> list[nn.Module]:
    return [*block.repeats, *([] if block.residual is None else [block.residual])]


def _copy_sub_block(ours: nn.Module, theirs: nn.Module) -> None:
    assert isinstance(theirs, SubBlock)
    convs = [module for module in ours.children() if isinstance(module, nn.Conv2d)]
    for conv, source in zip(convs, theirs.convs, strict=True):
        conv.weight.copy_(source.get_buffer("weight")[:, :, None])
    norm = ours.get_submodule("norm")
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name).copy_(getattr(theirs.norm, name))


def _fold_masked_frames(network: JasperNet, masked: MaskedNetwork, model: NemoModel, layout: Layout) -> None:
    last = model.blocks[-1]
    if not last.separable and last.kernel > 1:
        raise InputError(
            f"the .nemo file asks for what is not supported ({model.path}): its last block is not separable and has a "
            f"kernel of {last.kernel}, so that the frames behind a clip's end hold what depends on the clip",
            "a last block with a kernel of 1, or separable, is",
        )
    block = masked.blocks[-1]
    assert isinstance(block, JasperBlock)
    constant = _norm_of_zero(block.repeats[-1])
    if block.residual is not None:
        constant = constant + _norm_of_zero(block.residual)
    constant = torch.relu(constant)
    weight, bias = masked.get_buffer("weight").double(), masked.get_buffer("bias").double()
    decoder = network.decoder
    if model.pooling == "max":
        ours = network.blocks[-1]
        assert isinstance(ours, OurBlock)
        shift = ours.repeats[-1].get_parameter("norm.bias")
        shift.copy_(shift.double() - constant)
        decoder.bias.copy_(bias + weight @ constant)
        return
    share = layout.length / layout.total
    decoder.weight.copy_(weight * share)
    decoder.bias.copy_(bias + weight @ constant * (1.0 - share))


def _norm_of_zero(part: nn.Module) -> torch.Tensor:
    """Return what batch norm makes of zero, float64 (C,)."""
    norm = part.get_submodule("norm")
    weight, bias, mean, variance = (
        norm.get_buffer(name).double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    return bias - weight * mean / torch.sqrt(variance + BATCH_NORM_EPS)


def prove_equal(network: JasperNet, masked: MaskedNetwork, layout: Layout) -> float:
    """Return the largest difference between the two networks' logits, as a share of the largest logit.

    On random features of several levels, silence among them, seeded. Raises CheckFailed above LARGEST_ERROR.
    """
    rng = np.random.default_rng(0)
    coefficients, frames = network.config.input_coefficients, network.config.input_frames
    values = rng.normal(size=(_PROOF_INPUTS, coefficients, layout.total)) * 4.0 ** np.arange(-3, 5)[:, None, None]
    values[0] = 0.0
    values[1:4, 0] -= 60.0  # as c0 of MFCCs is
    values[:, :, : layout.before] = 0.0
    values[:, :, layout.before + layout.features :] = 0.0
    inputs = torch.from_numpy(values.astype(np.float32))
    with torch.no_grad():
        want, got = masked(inputs, layout.length), network(inputs[:, :, None, :frames])
    error = float((want - got).abs().max() / want.abs().max().clamp(min=1e-6))
    if not error < LARGEST_ERROR:
        raise CheckFailed(
            f"the network of fixed length does not equal NeMo's (largest error over the largest logit): "
            f"got {error:.3g}, need less than {LARGEST_ERROR:.3g}"
        )
    return error
