/* Twin: combine() in mbx_deploy/sim/elements.py. */
#include "mbx_combine.h"

#include "mbx_fixed_point.h"

#define MBX_COMBINE_LEFT_SHIFT 20

static inline int32_t mbx_combine_scaled(const mbx_combine_call *call, int which, int32_t centred)
{
    const int32_t shifted = centred * (INT32_C(1) << MBX_COMBINE_LEFT_SHIFT);
    return call->sign[which] *
           mbx_multiply_by_quantized_multiplier(shifted, call->multiplier[which], call->shift[which]);
}

static inline int8_t mbx_combine_values(const mbx_combine_call *call, int8_t first, int8_t second)
{
    const int32_t a = first - call->zero_point[0];
    const int32_t b = second - call->zero_point[1];
    const int32_t total =
        call->is_product != 0u ? a * b : mbx_combine_scaled(call, 0, a) + mbx_combine_scaled(call, 1, b);
    const int32_t scaled = mbx_multiply_by_quantized_multiplier(total, call->multiplier[2], call->shift[2]);
    const int32_t zero_point = call->zero_point[2];
    return (int8_t)(mbx_clamp(scaled, call->low - zero_point, call->high - zero_point) + zero_point);
}

/* Twin: combine(). */
void mbx_combine(const mbx_combine_call *call, const int8_t *input, const int8_t *other, int8_t *output)
{
    for (uint32_t y = 0; y < call->count[0]; y++) {
        for (uint32_t x = 0; x < call->count[1]; x++) {
            const int8_t *first = input + y * call->first_step[0] + x * call->first_step[1];
            const int8_t *second = other + y * call->second_step[0] + x * call->second_step[1];
            for (uint32_t i = 0; i < call->count[2]; i++) {
                *output++ = mbx_combine_values(call, *first, *second);
                first += call->first_step[2];
                second += call->second_step[2];
            }
        }
    }
}

void mbx_combine_constant(const mbx_combine_call *call, const int8_t *input, int8_t *output)
{
    mbx_combine(call, input, call->constant, output);
}
