"""A windowed network as a streaming one: the same weights, valid convolutions, the window that follows from them.

It is where training goes on from, not a finished model: the residual branches hear their last frames instead of the
middle ones, and there is no padding any more.
"""

import dataclasses

from mbx_deploy.errors import InputError
from mbx_deploy.train.checkpoint import CheckpointInfo, Network
from mbx_deploy.train.jasper import JasperBlockConfig, JasperNet
from mbx_deploy.train.matchboxnet import MatchboxNet, MatchboxNetConfig, build_matchboxnet

POOL_FRAMES, STEP_FRAMES = 100, 10


def to_streaming(
    network: Network, info: CheckpointInfo, pool_frames: int = POOL_FRAMES, step_frames: int = STEP_FRAMES
) -> tuple[MatchboxNet, CheckpointInfo]:
    """Return a streaming network with a network's weights, in evaluation mode, and what its checkpoint says.

    network: a MatchboxNet, ours or an imported one; a streaming one comes back as it is. Raises InputError for a
    network of another kind.
    """
    if isinstance(network, JasperNet):
        network = as_matchboxnet(network)
    if network.config.streaming:
        return network, info
    shape = dataclasses.replace(network.config, pool_frames=pool_frames, step_frames=step_frames)
    config = dataclasses.replace(shape, streaming=True, input_frames=shape.window_frames)
    old = info.frontend
    reach = 0 if old.center else old.window_length
    frontend = dataclasses.replace(
        old,
        clip_samples=(config.input_frames - 1) * old.hop_length + reach,
        pad_frames_before=0,
        pad_frames_after=0,
        drop_frames_after=0,
    )
    streaming = build_matchboxnet(config)
    streaming.load_state_dict(network.state_dict())
    return streaming.eval(), dataclasses.replace(info, model_config=config, frontend=frontend)


def as_matchboxnet(network: JasperNet) -> MatchboxNet:
    """Return a network of Jasper blocks that has MatchboxNet's shape as a MatchboxNet, in evaluation mode.

    Raises InputError, naming it, for what a MatchboxNet does not have.
    """
    shape = network.config
    blocks = shape.blocks
    need = "prologue, residual blocks, dilated epilogue, 1x1 epilogue, mean"
    if len(blocks) < 4 or shape.pooling != "avg":
        raise InputError(f"not a MatchboxNet: got {len(blocks)} blocks and {shape.pooling} pooling, need {need}")
    first, middle, dilated, last = blocks[0], blocks[1:-2], blocks[-2], blocks[-1]
    plain = JasperBlockConfig(last.filters, 1, 1, 1, False, last.separable)
    fits = (
        (not first.residual and first.separable and first.repeat == 1 and first.dilation == 1)
        and all(each.residual and each.separable and each.dilation == 1 for each in middle)
        and len({(each.filters, each.repeat) for each in middle}) == 1
        and (not dilated.residual and dilated.separable and dilated.repeat == 1)
        and last == plain
        and dilated.filters == last.filters
    )
    if not fits:
        raise InputError(
            f"not a MatchboxNet: got other blocks, need {need}",
            "only MatchboxNet can be made streaming; train one with [model] streaming = true",
        )
    config = MatchboxNetConfig(
        num_classes=shape.num_classes,
        blocks=len(middle),
        repeats=middle[0].repeat,
        channels=middle[0].filters,
        prologue_filters=first.filters,
        prologue_kernel=first.kernel,
        kernels=tuple(each.kernel for each in middle),
        epilogue_filters=last.filters,
        epilogue_kernel=dilated.kernel,
        epilogue_dilation=dilated.dilation,
        input_coefficients=shape.input_coefficients,
        input_frames=shape.input_frames,
    )
    names = {0: "prologue", len(blocks) - 2: "epilogue_1", len(blocks) - 1: "epilogue_2"}
    weights = {}
    for name, value in network.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            number = int(parts[1])
            prefix = names.get(number)
            # A block of ours that is no residual one is its only sub-block itself.
            name = ".".join(["blocks", str(number - 1), *parts[2:]] if prefix is None else [prefix, *parts[4:]])
        weights[name] = value
    found = build_matchboxnet(config)
    found.load_state_dict(weights)
    return found.eval()
