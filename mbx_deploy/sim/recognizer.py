"""The simulator of the whole road: int16 samples -> int8 features -> int8 logits -> scores."""

from typing import assert_never

import numpy as np

from mbx_deploy.frontend.tables import FrontendTables
from mbx_deploy.network.program import (
    Addition,
    Average,
    Call,
    Combination,
    Convolution,
    Join,
    KeepRows,
    Lookup,
    Maximum,
    Padding,
    Pointwise,
    Pooling,
    Program,
    Reshape,
    Resizing,
    Slice,
    Softmax,
    StreamReduction,
    Transposition,
)
from mbx_deploy.sim import elements, frontend, kernels, pooling
from mbx_deploy.sim.frontend import Observer


def exponential_table(output_scale: float) -> np.ndarray:
    """Return exp(-d * output_scale) for d = 0..255, uint16 (256,) in Q15."""
    table_q15: np.ndarray = np.rint(np.exp(-np.arange(256) * output_scale) * 2**15).astype(np.uint16)
    return table_q15


def features(
    samples: np.ndarray, tables: FrontendTables, program: Program, observe: Observer | None = None
) -> np.ndarray:
    """Return the int8 features of a clip that stands alone: (num_frames, num_coefficients).

    samples: int16 (clip_samples,).
    """
    coefficients = frontend.coefficients(samples, tables, observe)
    return frontend.quantize_features(coefficients, program.input_scale, program.input_zero_point, tables.unit)


def stream_features(samples: np.ndarray, tables: FrontendTables, program: Program, stride_frames: int) -> np.ndarray:
    """Return the int8 features of each window of continuous audio: (windows, num_frames, num_coefficients).

    samples: int16 (any,). The first window is complete when its frames are; the next follow every stride_frames.
    """
    config = tables.config
    frames = frontend.frame_coefficients(frontend.stream_frames(samples, tables), tables)
    starts = range(0, len(frames) - config.audio_frames + 1, stride_frames)
    windows = [frontend.pad_frames(frames[start : start + config.audio_frames], config) for start in starts]
    shape = (len(windows), config.num_frames, config.num_coefficients)
    coefficients = np.array(windows, np.int32).reshape(shape)
    return frontend.quantize_features(coefficients, program.input_scale, program.input_zero_point, tables.unit)


def rows_from_silence(samples: np.ndarray, tables: FrontendTables, program: Program) -> np.ndarray:
    """Return the int8 features of continuous audio that digital silence came before: (frames, num_coefficients).

    samples: int16 (any,). The first frame is the first one that sees a sample. Twin: mbx_begin_in_silence() and
    mbx_feed().
    """
    config = tables.config
    hop, length = config.hop_length, config.window_length
    before = (length - 1 - config.lead) // hop  # frames before the one that is centred at the first sample
    # Ample silence: no frame that is kept sees its beginning, where it would be reflected.
    quiet = before + 2 * (-(-length // hop) + 1)
    heard = np.concatenate([np.zeros(quiet * hop, np.int16), samples])
    frames = frontend.frame_coefficients(frontend.stream_frames(heard, tables)[quiet - before :], tables)
    return frontend.quantize_features(frames, program.input_scale, program.input_zero_point, tables.unit)


def logits(features_s8: np.ndarray, program: Program, observe: Observer | None = None) -> np.ndarray:
    """Return the network's int8 output (classes,). features_s8: int8, as many as the input has.

    observe(call's name, values) sees the output of every call. Twin: the generated call list.
    """
    return run_calls({program.input: features_s8}, program, observe)[program.output].ravel()


def run_calls(given: dict[int, np.ndarray], program: Program, observe: Observer | None = None) -> dict[int, np.ndarray]:
    """Return all buffers, int8 (height, width, channels) each, behind a run. given: those that no call writes."""
    buffers = {number: values.reshape(program.buffers[number].shape) for number, values in given.items()}
    for call in program.calls:
        target = program.buffers[call.output]
        result = run_call(call, buffers, target.shape)
        buffers[call.output] = result.reshape(target.shape)
        if observe:
            observe(call.name, buffers[call.output])
    return buffers


def run_call(call: Call, buffers: dict[int, np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    """Return a call's output, int8, as many values as shape has. buffers: int8 (height, width, channels) each."""
    source = buffers[call.input]
    match call:
        case Pointwise():
            return kernels.pointwise(source, call)
        case Convolution():
            convolve = kernels.depthwise_conv_2d if call.depthwise else kernels.conv_2d
            return convolve(source, call, shape)
        case Addition():
            return kernels.add(source, buffers[call.other], call)
        case Average():
            return kernels.mean(source, call)
        case Maximum():
            return kernels.maximum(source, call)
        case Pooling():
            pool = pooling.pool_average if call.average else pooling.pool_max
            return pool(source, call, shape)
        case Lookup():
            return elements.lookup(source, call)
        case Softmax():
            return elements.softmax(source, call)
        case Padding():
            return elements.pad(source, call)
        case Slice():
            return elements.cut(source, call)
        case Transposition():
            return elements.transpose(source, call)
        case Join():
            return elements.join(source, buffers[call.other], call)
        case Resizing():
            return elements.resize(source, call)
        case Combination():
            return elements.combine(source, None if call.other is None else buffers[call.other], call)
        case Reshape():
            return source
        case StreamReduction() | KeepRows():
            raise AssertionError(f"{call.name} is of a step: sim/stream.py says what a step computes")
        case _:
            assert_never(call)
