#include "mbx_steps.h"

#include <string.h>

void mbx_shift(const void *call, const mbx_operands *operands)
{
    const mbx_shift_call *shift = call;
    memmove(operands->output, operands->input, shift->bytes);
}

void mbx_run_steps(const mbx_step *steps, uint32_t count, int8_t *arena, mbx_observer observe, void *context)
{
    for (const mbx_step *step = steps; step != steps + count; step++) {
        const mbx_operands operands = {
            .input = arena + 4u * step->input,
            .other = arena + 4u * step->other,
            .output = arena + 4u * step->output,
            .scratch = arena + 4u * step->scratch,
        };
        step->run(step->call, &operands);
        if (step->observed_bytes != 0u) {
            mbx_observe_layer(observe, context, step->layer, operands.output, step->observed_bytes);
        }
    }
}
