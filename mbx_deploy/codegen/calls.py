"""What the template of the call list needs: a C struct a call, or a kind of its stripes, and the steps of cascades."""

from typing import Any

import numpy as np

from mbx_deploy.codegen.constants import plain_text
from mbx_deploy.compiler.cascade import WORD_BYTES, Cascade, Shift, Stripe, row_bytes, row_count, stripe_view
from mbx_deploy.compiler.kernels.kernel import DSP_GROUP_INPUTS, add_constants_dsp, as_product
from mbx_deploy.compiler.kernels.portable import call_fields
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.network.program import Addition, Average, Call, Convolution, Pointwise, Program

CASCADE_MODULE = "mbx_steps"
SHIFT_FUNCTION = "mbx_shift"
STEP_PREFIX = "step_"  # of the generated functions by which a step calls a kernel

Context = dict[str, Any]


def call_contexts(program: Program, plan: MemoryPlan, prefix: str) -> tuple[list[Context], list[Context]]:
    """Return what runs, a context a call or a cascade, and the C structs that it needs."""
    calls: list[Context] = []
    structs: list[Context] = []
    for part in plan.parts():
        if isinstance(part, Cascade):
            steps, made = _cascade_contexts(program, plan, part, prefix)
            names = (plain_text(program.calls[number].name) for number in (part.first, part.last))
            calls.append({"name": " to ".join(names), "steps": steps, "steps_name": f"cascade_{part.first}_steps"})
            structs += made
        else:
            context = _call_context(program, plan, part.call, program.calls[part.call], prefix)
            calls.append(context)
            structs.append(context)
    return calls, structs


def runners(program: Program, plan: MemoryPlan) -> list[Context]:
    """Return for each kernel that runs in a cascade how it is called by a step."""
    found = {}
    for cascade in plan.cascades:
        for number in range(cascade.first, cascade.last + 1):
            kernel = plan.kernels[number]
            found[kernel.name] = {
                "name": _runner_name(kernel.name),
                "kernel": kernel.name,
                "other": isinstance(program.calls[number], Addition),
                "scratch": kernel.scratch_bytes > 0,
            }
    return [found[name] for name in sorted(found)]


def _runner_name(kernel: str) -> str:
    return f"{STEP_PREFIX}{kernel.removeprefix('mbx_')}"


def _cascade_contexts(
    program: Program, plan: MemoryPlan, cascade: Cascade, prefix: str
) -> tuple[list[Context], list[Context]]:
    """Return the steps of a cascade, and a struct for each kind of stripe that a call has."""
    writers = {call.output: call.name for call in program.calls}
    made: dict[tuple[int | str, ...], Context] = {}
    steps = []
    for step in cascade.steps:
        if isinstance(step, Shift):
            row = row_bytes(program.buffers[step.buffer])
            start = plan.offsets[step.buffer]
            size = step.count * row
            struct = made.setdefault(
                ("shift", size),
                {
                    "kind": "fields",
                    "struct": "mbx_shift_call",
                    "comment": f"{size} bytes that a cascade still needs",
                    "name_in_c": f"cascade_{cascade.first}_shift_of_{size}_bytes",
                    "fields": {"bytes": size},
                    "is_free": False,
                },
            )
            places = (start + step.first * row, start, start, start)
            name = plain_text(writers[step.buffer])
            steps.append(_step(SHIFT_FUNCTION, struct, places, 0, 0, f"{step.count} rows of {name}"))
            continue
        call, kernel = program.calls[step.call], plan.kernels[step.call]
        view, part = stripe_view(program, step)
        kind: tuple[int, ...] = (
            *(step.call, step.end - step.first),
            *(step.source_end - step.source_first, step.first - step.source_first),
        )
        first, last = step.first == 0, step.end == row_count(program.buffers[call.input])
        if isinstance(call, Average):
            kind = (*kind, first, last)
        if kind not in made:
            name = f"call_v{sum(known[0] == step.call for known in made)}_{step.call}"
            made[kind] = _call_context(view, plan, step.call, part, prefix) | {"name_in_c": name}
            if isinstance(call, Average):
                made[kind] |= _mean_stripe(program, call, step)
        source, target = (row_bytes(program.buffers[buffer]) for buffer in (call.input, call.output))
        places = (
            plan.offsets[call.input] + step.input_at * source,
            plan.offsets[call.other] + step.other_at * source if isinstance(call, Addition) else 0,
            plan.offsets[call.output] + step.output_at * target,
            plan.scratch_offsets[step.call],
        )
        if made[kind].get("swapped"):
            places = (places[1], places[0], *places[2:])
        observed = (step.end - step.first) * target
        if isinstance(call, Average):
            observed = program.buffers[call.output].size_bytes if last else 0
        text = f"{plain_text(call.name)}, rows {step.first} to {step.end - 1}"
        steps.append(_step(_runner_name(kernel.name), made[kind], places, step.call, observed, text))
    return steps, list(made.values())


def _step(run: str, struct: Context, places: tuple[int, ...], layer: int, observed: int, comment: str) -> Context:
    """places: offsets of input, other, output and working memory, in bytes."""
    if any(place % WORD_BYTES for place in places):
        raise AssertionError(f"a step does not begin at a word ({comment}): {places}")
    words = dict(zip(("input", "other", "output", "scratch"), (p // WORD_BYTES for p in places), strict=True))
    return {
        **words,
        "run": run,
        "struct": struct["name_in_c"],
        "layer": layer,
        "observed_bytes": observed,
        "comment": comment,
    }


def _mean_stripe(program: Program, call: Average, step: Stripe) -> Context:
    fields, source = call_fields(program, call).fields, program.buffers[call.input]
    mean = ", ".join(f".{name} = {value}" for name, value in fields.items())
    return {
        "struct": "mbx_mean_stripe_call",
        "fields": {
            "mean": f"{{{mean}}}",
            "positions": (step.end - step.first) * row_bytes(source) // source.channels,
            "is_first": int(step.first == 0),
            "is_last": int(step.end == row_count(source)),
        },
    }


def _call_context(program: Program, plan: MemoryPlan, number: int, call: Call, prefix: str) -> Context:
    """program, call: as lowered, or a stripe as a whole call."""
    offsets, kernel = plan.offsets, plan.kernels[number]
    source, target = program.buffers[call.input], program.buffers[call.output]
    shapes = (
        f"{source.height} x {source.width} x {source.channels} -> {target.height} x {target.width} x {target.channels}"
    )
    context: Context = {
        "number": number,
        "name_in_c": f"call_{number}",
        "steps": [],
        "name": plain_text(call.name),
        "comment": f"{plain_text(call.name)}: {shapes}",
        "kernel": kernel.name,
        "source": source,
        "target": target,
        "input_offset": offsets[call.input],
        "other_offset": offsets[call.other] if isinstance(call, Addition) else None,
        "output_offset": offsets[call.output],
        "output_bytes": target.size_bytes,
        "is_free": plan.is_free(call),
        "scratch_offset": plan.scratch_offsets[number] if kernel.scratch_bytes else None,
        "positions": target.height * target.width,
        "in_positions": source.height * source.width,
    }
    if isinstance(call, Addition) and kernel.name in ("mbx_add_dsp", "mbx_add_thumb"):
        constants = add_constants_dsp(call)
        assert constants is not None
        context["swapped"] = constants.swapped
        if constants.swapped:
            context |= {"input_offset": context["other_offset"], "other_offset": context["input_offset"]}
        return context | {"kind": kernel.name.removeprefix("mbx_"), "add": constants, "count": target.size_bytes}
    if isinstance(call, Addition):
        return context | {"kind": "add", "add": call, "count": target.size_bytes}
    if not isinstance(call, Pointwise | Convolution):
        found = call_fields(program, call)
        fields = {k: f"{prefix}_{k}_{number}" if isinstance(v, np.ndarray) else v for k, v in found.fields.items()}
        return context | {"kind": "fields", "struct": found.struct, "fields": fields}
    context |= {
        key: f"{prefix}_{key}_{number}"
        for key in ("weights", "bias", "multiplier", "shift", "channels", "constants", "shifts")
    }
    context["requantization"] = call.requantization
    if isinstance(call, Convolution) and kernel.name == "mbx_conv_2d_dsp":
        product = as_product(program, call)
        outputs, inputs = product.weights.shape
        groups = {"out_pairs": -(-outputs // 2), "groups": -(-inputs // DSP_GROUP_INPUTS)}
        fields = {"out_channels": outputs, "in_channels": inputs, "positions": product.positions}
        return context | groups | fields | {"kind": "conv_dsp", "conv": call}
    if isinstance(call, Pointwise):
        shape = {"out_channels": call.weights.shape[0], "in_channels": call.weights.shape[1]}
        groups = {"out_pairs": -(-call.weights.shape[0] // 2), "groups": -(-call.weights.shape[1] // DSP_GROUP_INPUTS)}
        kind = kernel.name.removeprefix("mbx_")
        return context | shape | groups | {"kind": kind, "positions": call.positions}
    line = kernel.name.startswith("mbx_depthwise_line")
    return context | {"kind": kernel.name.removeprefix("mbx_") if line else "conv", "conv": call}
