"""The C kernels in this process, through ctypes: structs, calls, and guard bytes around every output."""

import ctypes
from typing import Any

import numpy as np

from mbx_deploy.compiler.cascade import Shift, Stripe, Whole, row_bytes, row_count, stripe_view
from mbx_deploy.compiler.kernels.kernel import (
    DSP_GROUP_INPUTS,
    KERNEL_MODULES,
    KERNEL_SETS,
    Kernel,
    add_constants_dsp,
    as_product,
    fold_zero_point,
    pack_depthwise_dsp,
    pack_depthwise_helium,
    pack_depthwise_thumb,
    pack_pointwise_dsp,
    pack_pointwise_helium,
    pack_pointwise_thumb,
    select_kernel,
)
from mbx_deploy.compiler.kernels.portable import call_fields
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.network.program import (
    Addition,
    Average,
    Buffer,
    Call,
    Convolution,
    Pointwise,
    Program,
    Requantization,
    call_inputs,
    lead_in_place,
    may_overwrite,
)
from mbx_deploy.system.resources import runtime_file
from mbx_deploy.system.tools import compile_shared_library

GUARD_BYTES = 64
GUARD = 0x5A
U8, U16, I16, I32, U32, I8 = (
    ctypes.c_uint8,
    ctypes.c_uint16,
    ctypes.c_int16,
    ctypes.c_int32,
    ctypes.c_uint32,
    ctypes.c_int8,
)


class CRequantization(ctypes.Structure):
    """mbx_requantization."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("bias", "multiplier", "shift")),
        *((name, I16) for name in ("zero_point", "low", "high")),
    ]


class CPointwise(ctypes.Structure):
    """mbx_pointwise_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "in_channels", "out_channels")),
        ("weights", ctypes.c_void_p),
        ("requantization", CRequantization),
    ]


class CConvolution(ctypes.Structure):
    """mbx_conv_call."""

    _fields_ = [
        *((f"{side}_{axis}", U16) for side in ("in", "out") for axis in ("height", "width", "channels")),
        *((f"kernel_{axis}", U16) for axis in ("height", "width")),
        *((f"{what}_{axis}", U8) for what in ("stride", "dilation") for axis in ("height", "width")),
        *((name, U16) for name in ("pad_top", "pad_left")),
        ("input_zero_point", I16),
        ("weights", ctypes.c_void_p),
        ("requantization", CRequantization),
    ]


class CDepthwise(ctypes.Structure):
    """mbx_depthwise_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "in_positions", "channels", "kernel", "dilation", "pad")),
        ("input_zero_point", I16),
        ("weights", ctypes.c_void_p),
        ("requantization", CRequantization),
    ]


class CAddition(ctypes.Structure):
    """mbx_add_call."""

    _fields_ = [
        ("count", U32),
        ("zero_point", I16 * 3),
        ("multiplier", I32 * 3),
        ("shift", I8 * 3),
        ("low", I16),
        ("high", I16),
    ]


class CMaximum(ctypes.Structure):
    """mbx_max_call."""

    _fields_ = [(name, U32) for name in ("rows", "positions", "channels")]


class CAverage(ctypes.Structure):
    """mbx_mean_call."""

    _fields_ = [
        *((name, U16) for name in ("rows", "positions", "channels")),
        *((name, I16) for name in ("input_zero_point", "output_zero_point")),
        ("multiplier", I32),
        ("shift", I8),
    ]


class CPool(ctypes.Structure):
    """mbx_pool_call."""

    _fields_ = [
        *((f"{side}_{axis}", U16) for side in ("in", "out") for axis in ("height", "width")),
        ("channels", U16),
        *((name, U16) for name in ("window_height", "window_width", "pad_top", "pad_left")),
        *((name, U8) for name in ("stride_height", "stride_width")),
        *((name, I8) for name in ("low", "high")),
    ]


class CLookup(ctypes.Structure):
    """mbx_lookup_call."""

    _fields_ = [("count", U32), ("table", ctypes.c_void_p)]


class CPad(ctypes.Structure):
    """mbx_pad_call."""

    _fields_ = [
        *((name, U16) for name in ("in_height", "in_width", "in_channels", "out_width", "out_channels")),
        *((name, U16) for name in ("top", "left", "before")),
        ("out_bytes", U32),
        ("value", I8),
    ]


class CReshape(ctypes.Structure):
    """mbx_reshape_call."""

    _fields_ = [("count", U32)]


class CSoftmax(ctypes.Structure):
    """mbx_softmax_call."""

    _fields_ = [("rows", U32), ("classes", U16), ("exponentials", U16), ("exponential_q31", ctypes.c_void_p)]


WEIGHTLESS: dict[str, type[ctypes.Structure]] = {
    "mbx_max_call": CMaximum,
    "mbx_mean_call": CAverage,
    "mbx_pool_call": CPool,
    "mbx_lookup_call": CLookup,
    "mbx_pad_call": CPad,
    "mbx_reshape_call": CReshape,
    "mbx_softmax_call": CSoftmax,
}


class CPointwiseDsp(ctypes.Structure):
    """mbx_pointwise_dsp_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "in_channels", "out_channels", "out_pairs", "groups")),
        ("zero_point", I16),
        *((name, ctypes.c_void_p) for name in ("weights", "channels", "shifts")),
    ]


class CPointwiseThumb(ctypes.Structure):
    """mbx_pointwise_thumb_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "in_channels", "out_channels", "groups")),
        ("zero_point", I16),
        *((name, ctypes.c_void_p) for name in ("weights", "channels", "shifts")),
    ]


class CPointwiseHelium(ctypes.Structure):
    """mbx_pointwise_helium_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "in_channels", "out_channels", "groups")),
        *((name, I16) for name in ("zero_point", "low", "high")),
        *((name, ctypes.c_void_p) for name in ("weights", "channels")),
    ]


class CDepthwiseHelium(ctypes.Structure):
    """mbx_depthwise_helium_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "in_positions", "channels", "kernel", "dilation", "pad")),
        *((name, I16) for name in ("input_zero_point", "zero_point", "low", "high")),
        *((name, ctypes.c_void_p) for name in ("weights", "constants")),
    ]


class CConvolutionDsp(ctypes.Structure):
    """mbx_conv_dsp_call."""

    _fields_ = [("geometry", CConvolution), ("product", CPointwiseDsp)]


class CDepthwiseDsp(ctypes.Structure):
    """mbx_depthwise_dsp_call, and mbx_depthwise_thumb_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "in_positions", "channels", "kernel", "dilation", "pad")),
        *((name, I16) for name in ("input_zero_point", "zero_point")),
        *((name, ctypes.c_void_p) for name in ("weights", "constants", "shifts")),
    ]


class CAdditionDsp(ctypes.Structure):
    """mbx_add_dsp_call, and mbx_add_thumb_call."""

    _fields_ = [
        ("count", U32),
        *((name, I16) for name in ("exact_zero_point", "scaled_zero_point", "zero_point")),
        *((name, U8) for name in ("scaled_shift", "shift")),
        *((name, I32) for name in ("scaled_multiplier", "multiplier")),
    ]


_library: ctypes.CDLL | None = None


def library() -> ctypes.CDLL:
    """Return the C kernels, every set of them, compiled once; on this machine those of a core are in plain C."""
    global _library
    if _library is None:
        names = ["mbx_fixed_point.h", "mbx_taps.h", "mbx_kernels.h", "mbx_kernels.c"]
        modules = sorted({*KERNEL_MODULES.values(), "mbx_steps"})
        names += ["mbx_runtime.h", *(f"{name}{end}" for name in modules for end in (".h", ".c"))]
        for kernel_set in KERNEL_SETS[1:]:
            names += [f"mbx_kernels_{kernel_set}.{suffix}" for suffix in "hc"]
        _library = ctypes.CDLL(str(compile_shared_library({name: runtime_file(name).read_text() for name in names})))
    return _library


def _pack(value: np.ndarray, kind: Any, keep: list[np.ndarray]) -> int:
    """Return the address of the array as the C wants it; keep owns it."""
    array = np.ascontiguousarray(value).astype(kind)
    assert (array.astype(np.int64) == value).all(), "a constant does not fit its type"
    keep.append(array)
    return int(array.ctypes.data)


def _requantization(r: Requantization, keep: list[np.ndarray]) -> CRequantization:
    return CRequantization(
        _pack(r.bias, np.int32, keep),
        _pack(r.multiplier, np.int32, keep),
        _pack(r.shift, np.int8, keep),
        r.zero_point,
        r.low,
        r.high,
    )


def run_c(
    call: Call, inputs: list[np.ndarray], source: Buffer, target: Buffer, kernel_set: str = "portable"
) -> np.ndarray:
    """Return what the C kernel writes, int8 of the target's shape.

    Where the kernel allows it the output is also written over each input, which must give the same. Fails where it
    writes beside its output or its working memory, or into an input.
    """
    buffers = [source] * (1 + max(call.output, *call_inputs(call)))
    buffers[call.output] = target
    program = Program(tuple(buffers), (call,), call.input, call.output, 1.0, 0, 1.0, 0)
    kernel = select_kernel(program, call, kernel_set)
    result = _run(program, call, kernel, inputs, None)
    for number, index in enumerate(call_inputs(call)):
        if may_overwrite(program, call, index):
            in_place = _run(program, call, kernel, inputs, number)
            np.testing.assert_array_equal(in_place, result, f"{kernel.name}, its output over input {number}")
    return result


class _Memory:
    """Bytes between guards."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.bytes = np.full(-(-size // 8) * 8 + 2 * GUARD_BYTES, GUARD, np.int8)
        self.address = self.bytes.ctypes.data + GUARD_BYTES

    @property
    def content(self) -> np.ndarray:
        return self.bytes[GUARD_BYTES : GUARD_BYTES + self.size]

    def check(self, what: str) -> None:
        around = (self.bytes[:GUARD_BYTES], self.bytes[GUARD_BYTES + self.size :])
        assert all((part == GUARD).all() for part in around), f"{what} is left"


def _run(program: Program, call: Call, kernel: Kernel, inputs: list[np.ndarray], overwritten: int | None) -> np.ndarray:
    """Return the output of a call. overwritten: the number of the input in whose place it lies, or None."""
    target = program.buffers[call.output]
    leads = [lead_in_place(program, call, b) if overwritten == i else 0 for i, b in enumerate(call_inputs(call))]
    sizes = [
        max(lead + values.size, target.size_bytes if overwritten == i else 0)
        for i, (values, lead) in enumerate(zip(inputs, leads, strict=True))
    ]
    places = [_Memory(size) for size in sizes]
    for place, values, lead in zip(places, inputs, leads, strict=True):
        place.content[lead : lead + values.size] = values.ravel()
    output = _Memory(target.size_bytes) if overwritten is None else places[overwritten]
    scratch = _Memory(kernel.scratch_bytes)
    addresses = [place.address + lead for place, lead in zip(places, leads, strict=True)]
    invoke(program, call, kernel, addresses, output.address, scratch.address)
    for what, memory in (("the output", output), ("the working memory", scratch)):
        memory.check(f"{kernel.name}: {what}")
    for i, (place, values) in enumerate(zip(places, inputs, strict=True)):
        place.check(f"{kernel.name}: input {i}")
        if i != overwritten:
            np.testing.assert_array_equal(place.content, values.ravel(), f"{kernel.name} changed its input {i}")
    return output.content[: target.size_bytes].copy().reshape(target.shape)


def invoke(program: Program, call: Call, kernel: Kernel, inputs: list[int], output: int, scratch: int) -> None:
    """Run the C kernel on addresses, as the generated call list does."""
    keep: list[np.ndarray] = []
    c = call_structure(program, call, kernel, keep)
    inputs = inputs[::-1] if swaps_inputs(call, kernel) else inputs
    function = getattr(library(), kernel.name)
    function.restype = None
    rest = [scratch] if kernel.scratch_bytes else []
    function(ctypes.byref(c), *map(ctypes.c_void_p, [*inputs, output, *rest]))


def call_structure(program: Program, call: Call, kernel: Kernel, keep: list[np.ndarray]) -> ctypes.Structure:
    """Return the struct that a kernel takes; keep owns the arrays that it points to."""
    if kernel.name in ("mbx_pointwise_helium", "mbx_depthwise_line_helium"):
        return _call_helium(program, call, keep)
    if kernel.name.endswith("_thumb"):
        return _call_thumb(program, call, keep)
    own = kernel.name.endswith("_dsp") and kernel.name != "mbx_depthwise_conv_2d_dsp"  # which takes the portable struct
    return _call_dsp(program, call, keep) if own else _call(program, call, kernel, keep)


def swaps_inputs(call: Call, kernel: Kernel) -> bool:
    """Whether a kernel wants the second input first."""
    constants = add_constants_dsp(call) if isinstance(call, Addition) else None
    return constants is not None and constants.swapped and kernel.name in ("mbx_add_dsp", "mbx_add_thumb")


def _call(program: Program, call: Call, kernel: Kernel, keep: list[np.ndarray]) -> ctypes.Structure:
    source, target = program.buffers[call.input], program.buffers[call.output]
    if isinstance(call, Pointwise):
        out_channels, in_channels = call.weights.shape
        weights = _pack(call.weights, np.int8, keep)
        r = _requantization(call.requantization, keep)
        return CPointwise(call.positions, in_channels, out_channels, weights, r)
    if isinstance(call, Convolution) and kernel.name == "mbx_depthwise_line":
        shape = _line_shape(source, target, call)
        weights = _pack(call.weights.reshape(-1, source.channels).T, np.int8, keep)
        return CDepthwise(*shape, call.input_zero_point, weights, _requantization(call.requantization, keep))
    if isinstance(call, Convolution):
        return CConvolution(
            *source.shape,
            *target.shape,
            *call.kernel,
            *call.stride,
            *call.dilation,
            *call.pad,
            call.input_zero_point,
            _pack(call.weights, np.int8, keep),
            _requantization(call.requantization if call.depthwise else fold_zero_point(call), keep),
        )
    if isinstance(call, Addition):
        return CAddition(
            target.size_bytes,
            (I16 * 3)(*call.zero_points),
            (I32 * 3)(*call.multipliers),
            (I8 * 3)(*call.shifts),
            call.low,
            call.high,
        )
    found = call_fields(program, call)
    values = {
        key: _pack(value, value.dtype, keep) if isinstance(value, np.ndarray) else value
        for key, value in found.fields.items()
    }
    c = WEIGHTLESS[found.struct](**values)
    assert all(getattr(c, key) == value for key, value in values.items()), "a field does not fit its type"
    return c


def _call_dsp(program: Program, call: Call, keep: list[np.ndarray]) -> ctypes.Structure:
    source, target = program.buffers[call.input], program.buffers[call.output]
    if isinstance(call, Pointwise):
        out_channels, in_channels = call.weights.shape
        packed, channels, shifts = pack_pointwise_dsp(call)
        constants = (_pack(packed, np.int16, keep), _pack(channels, np.int32, keep), _pack(shifts, np.uint8, keep))
        groups = -(-in_channels // DSP_GROUP_INPUTS)
        shape = (call.positions, in_channels, out_channels, -(-out_channels // 2), groups)
        return CPointwiseDsp(*shape, call.requantization.zero_point, *constants)
    if isinstance(call, Convolution) and not call.depthwise:
        product = _call_dsp(program, as_product(program, call), keep)
        geometry = (*source.shape, *target.shape, *call.kernel, *call.stride, *call.dilation, *call.pad)
        empty = CRequantization(None, None, None, 0, 0, 0)
        return CConvolutionDsp(CConvolution(*geometry, call.input_zero_point, None, empty), product)
    if isinstance(call, Convolution):
        taps, channels, shifts = pack_depthwise_dsp(call)
        constants = (_pack(taps, np.int8, keep), _pack(channels, np.int32, keep), _pack(shifts, np.uint8, keep))
        points = (call.input_zero_point, call.requantization.zero_point)
        return CDepthwiseDsp(*_line_shape(source, target, call), *points, *constants)
    assert isinstance(call, Addition)
    c = add_constants_dsp(call)
    assert c is not None
    zeros = (c.exact_zero_point, c.scaled_zero_point, c.zero_point)
    return CAdditionDsp(target.size_bytes, *zeros, c.scaled_shift, c.shift, c.scaled_multiplier, c.multiplier)


def _line_shape(source: Buffer, target: Buffer, call: Convolution) -> tuple[int, ...]:
    return (target.width, source.width, source.channels, call.kernel[1], call.dilation[1], call.pad[1])


def _call_thumb(program: Program, call: Call, keep: list[np.ndarray]) -> ctypes.Structure:
    source = program.buffers[call.input]
    if isinstance(call, Addition):
        return _call_dsp(program, call, keep)
    if isinstance(call, Pointwise):
        packed, channels, shifts = pack_pointwise_thumb(call)
        constants = (_pack(packed, np.uint8, keep), _pack(channels, np.int32, keep), _pack(shifts, np.uint8, keep))
        outputs, inputs = call.weights.shape
        groups = packed.shape[1] // 16
        return CPointwiseThumb(call.positions, inputs, outputs, groups, call.requantization.zero_point, *constants)
    assert isinstance(call, Convolution)
    taps, channels, shifts = pack_depthwise_thumb(call)
    constants = (_pack(taps, np.int8, keep), _pack(channels, np.int32, keep), _pack(shifts, np.uint8, keep))
    shape = _line_shape(source, program.buffers[call.output], call)
    return CDepthwiseDsp(*shape, call.input_zero_point, call.requantization.zero_point, *constants)


def _call_helium(program: Program, call: Call, keep: list[np.ndarray]) -> ctypes.Structure:
    source = program.buffers[call.input]
    if isinstance(call, Pointwise):
        packed, channels = pack_pointwise_helium(call)
        constants = (_pack(packed, np.int8, keep), _pack(channels, np.int32, keep))
        shape = (call.positions, *call.weights.shape[::-1], packed.shape[1])
        r = call.requantization
        return CPointwiseHelium(*shape, r.zero_point, r.low, r.high, *constants)
    assert isinstance(call, Convolution)
    packed, channels = pack_depthwise_helium(call)
    constants = (_pack(packed, np.int8, keep), _pack(channels, np.int32, keep))
    shape = _line_shape(source, program.buffers[call.output], call)
    r = call.requantization
    return CDepthwiseHelium(*shape, call.input_zero_point, r.zero_point, r.low, r.high, *constants)


def run_program_c(program: Program, values: np.ndarray, kernel_set: str = "portable") -> np.ndarray:
    """Return the network's output, every step run by its C kernel in one arena, laid out by the planner."""
    return run_plan_c(program, values, plan_memory(program, kernel_set))[-1]


def run_plan_c(program: Program, values: np.ndarray, plan: MemoryPlan) -> list[np.ndarray]:
    """Return the output of each call, put together of its stripes, as an observer sees it, and the network's."""
    arena = _Memory(plan.arena_bytes)
    first = plan.offsets[program.input]
    arena.content[first : first + values.size] = values.ravel()
    seen: list[list[np.ndarray]] = [[] for _ in program.calls]

    def place(buffer: int, at: int = 0) -> int:
        return plan.offsets[buffer] + at * row_bytes(program.buffers[buffer])

    for step in plan.steps():
        if isinstance(step, Shift):
            start, rows = place(step.buffer), step.count * row_bytes(program.buffers[step.buffer])
            source = place(step.buffer, step.first)
            shift(arena.address + source, arena.address + start, rows)
            continue
        view, call = (program, program.calls[step.call]) if isinstance(step, Whole) else stripe_view(program, step)
        ats = [0, 0, 0] if isinstance(step, Whole) else [step.input_at, step.other_at, step.output_at]
        inputs = [arena.address + place(index, at) for index, at in zip(call_inputs(call), ats, strict=False)]
        output = place(call.output, ats[2])
        scratch = arena.address + plan.scratch_offsets[step.call]
        kernel = plan.kernels[step.call]
        if isinstance(step, Stripe) and isinstance(call, Average):
            invoke_mean_stripe(program, call, step, kernel, inputs[0], arena.address + output, scratch)
            size = program.buffers[call.output].size_bytes if step.end == row_count(program.buffers[call.input]) else 0
        else:
            invoke(view, call, kernel, inputs, arena.address + output, scratch)
            size = view.buffers[call.output].size_bytes
        seen[step.call].append(arena.content[output : output + size].copy())
    arena.check("the arena")
    start = plan.offsets[program.output]
    last = arena.content[start : start + program.buffers[program.output].size_bytes].copy()
    return [*(np.concatenate(parts) for parts in seen), last]


class COperands(ctypes.Structure):
    """mbx_operands."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("input", "other", "output", "scratch")]


def shift(source: int, target: int, count: int) -> None:
    """Run mbx_shift() on addresses."""
    operands = COperands(source, None, target, None)
    library().mbx_shift(ctypes.byref(U32(count)), ctypes.byref(operands))


class CMeanStripe(ctypes.Structure):
    """mbx_mean_stripe_call."""

    _fields_ = [("mean", CAverage), ("positions", U16), ("is_first", U8), ("is_last", U8)]


def invoke_mean_stripe(
    program: Program, call: Average, step: Stripe, kernel: Kernel, source: int, output: int, sums: int
) -> None:
    """Run mbx_mean_stripe() on addresses."""
    mean = call_structure(program, call, Kernel("mbx_mean", 0), [])
    ends = (step.first == 0, step.end == row_count(program.buffers[call.input]))
    source_buffer = program.buffers[call.input]
    positions = (step.end - step.first) * row_bytes(source_buffer) // source_buffer.channels
    c = CMeanStripe(mean, positions, *map(int, ends))
    getattr(library(), kernel.name)(ctypes.byref(c), *map(ctypes.c_void_p, (source, output, sums)))
