"""The C structs of calls without weights: their fields, and the tables that they point to.

Twins: the structs of firmware_templates/runtime/network/mbx_kernels.h, mbx_pooling.h, mbx_elements.h and mbx_softmax.h.
"""

from dataclasses import dataclass

import numpy as np

from mbx_deploy.network.program import (
    Average,
    Lookup,
    Maximum,
    Padding,
    Pooling,
    Program,
    Reshape,
    Softmax,
    reduction_layout,
)

WeightlessCall = Average | Maximum | Pooling | Lookup | Softmax | Padding | Reshape


@dataclass(frozen=True)
class CallFields:
    """struct: the C type. fields: name -> integer, or an array of a table that the field points to."""

    struct: str
    fields: dict[str, int | np.ndarray]


def call_fields(program: Program, call: WeightlessCall) -> CallFields:
    """Return the struct that the kernel of a call takes."""
    source, target = program.buffers[call.input], program.buffers[call.output]
    if isinstance(call, Average | Maximum):
        layout = dict(zip(("rows", "positions", "channels"), reduction_layout(source, call.axes), strict=True))
        if isinstance(call, Maximum):
            return CallFields("mbx_max_call", {**layout})
        points = {"input_zero_point": call.input_zero_point, "output_zero_point": call.output_zero_point}
        return CallFields("mbx_mean_call", {**layout, **points, "multiplier": call.multiplier, "shift": call.shift})
    if isinstance(call, Pooling):
        fields = {
            "in_height": source.height,
            "in_width": source.width,
            "out_height": target.height,
            "out_width": target.width,
            "channels": source.channels,
            "window_height": call.window[0],
            "window_width": call.window[1],
            "pad_top": call.pad[0],
            "pad_left": call.pad[1],
            "stride_height": call.stride[0],
            "stride_width": call.stride[1],
            "low": call.low,
            "high": call.high,
        }
        return CallFields("mbx_pool_call", {**fields})
    if isinstance(call, Lookup):
        return CallFields("mbx_lookup_call", {"count": source.size_bytes, "table": call.table})
    if isinstance(call, Softmax):
        rows = {"rows": source.height * source.width, "classes": source.channels}
        count = len(call.exponentials_q31)
        return CallFields("mbx_softmax_call", {**rows, "exponentials": count, "exponential_q31": call.exponentials_q31})
    if isinstance(call, Padding):
        fields = {
            "in_height": source.height,
            "in_width": source.width,
            "in_channels": source.channels,
            "out_width": target.width,
            "out_channels": target.channels,
            "top": call.amounts[0][0],
            "left": call.amounts[1][0],
            "before": call.amounts[2][0],
            "out_bytes": target.size_bytes,
            "value": call.value,
        }
        return CallFields("mbx_pad_call", {**fields})
    return CallFields("mbx_reshape_call", {"count": source.size_bytes})
