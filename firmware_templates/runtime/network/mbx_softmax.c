/* Twin: softmax() of mbx_deploy/sim/elements.py. */
#include "mbx_softmax.h"

#include "mbx_fixed_point.h"

#define ACCUMULATOR_INTEGER_BITS 12
#define ONE_Q29 (INT32_C(1) << 29)
#define FORTY_EIGHT_SEVENTEENTHS_Q29 INT32_C(1515870810)
#define MINUS_THIRTY_TWO_SEVENTEENTHS_Q29 INT32_C(-1010580540)

/* 1 / (1 + value), Q31; value 0 to 2^31 - 1. Twin: reciprocal(). x stays between 16/17 and 2 of Q29. */
static int32_t mbx_reciprocal(int32_t value_q31)
{
    const int32_t half = (int32_t)(((uint32_t)value_q31 + UINT32_C(0x80000000)) >> 1);
    int32_t x = FORTY_EIGHT_SEVENTEENTHS_Q29 + mbx_doubling_high_multiply(half, MINUS_THIRTY_TWO_SEVENTEENTHS_Q29);
    for (int step = 0; step < 3; step++) {
        const int32_t missing = ONE_Q29 - mbx_doubling_high_multiply(half, x);
        x += mbx_doubling_high_multiply(x, missing) * 4;
    }
    return x >= (INT32_C(1) << 30) ? INT32_MAX : x * 2;
}

static inline int32_t mbx_exponential_q31(const mbx_softmax_call *call, int32_t distance)
{
    return distance < call->exponentials ? call->exponential_q31[distance] : 0;
}

static void mbx_softmax_row(const mbx_softmax_call *call, const int8_t *input, int8_t *output)
{
    int32_t largest = -128;
    for (uint32_t i = 0; i < call->classes; i++) {
        largest = input[i] > largest ? input[i] : largest;
    }
    int32_t total_q19 = 0; /* at least 2^19, below 2^31 */
    for (uint32_t i = 0; i < call->classes; i++) {
        total_q19 += mbx_divide_by_power_of_two(mbx_exponential_q31(call, largest - input[i]), ACCUMULATOR_INTEGER_BITS);
    }
    int headroom = 0;
    uint32_t mantissa = (uint32_t)total_q19;
    while ((mantissa & UINT32_C(0x80000000)) == 0u) {
        mantissa <<= 1;
        headroom++;
    }
    /* The mantissa is 1 to 2 in Q31: the reciprocal takes it without its 1. */
    const int32_t scale_q31 = mbx_reciprocal((int32_t)(mantissa - UINT32_C(0x80000000)));
    const int shift = ACCUMULATOR_INTEGER_BITS - headroom + 31 - 8;
    for (uint32_t i = 0; i < call->classes; i++) {
        const int32_t exponential = mbx_exponential_q31(call, largest - input[i]);
        const int32_t product_q31 = mbx_doubling_high_multiply(scale_q31, exponential);
        const int32_t scaled = shift > 31 ? 0 : mbx_divide_by_power_of_two(product_q31, shift); /* below a half */
        output[i] = (int8_t)mbx_clamp(scaled - 128, -128, 127);
    }
}

/* Twin: softmax(). */
void mbx_softmax(const mbx_softmax_call *call, const int8_t *input, int8_t *output)
{
    for (uint32_t row = 0; row < call->rows; row++) {
        mbx_softmax_row(call, input + row * call->classes, output + row * call->classes);
    }
}
