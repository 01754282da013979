/* Fixed-point arithmetic. All rounding of the runtime happens in the functions of this file.
 *
 * Twin: mbx_deploy/sim/fixed_point.py, the same functions in the same order.
 *
 * A right shift of a negative number is arithmetic (rounds towards minus infinity) on every compiler that we support;
 * C99 leaves it to the implementation, so the next lines check it where the code is compiled.
 */
#ifndef MBX_FIXED_POINT_H
#define MBX_FIXED_POINT_H

#include <stdint.h>

#if (-3 >> 1) != -2
#error "mbx: this compiler does not shift negative numbers arithmetically"
#endif

/* (a * b + 2^31) >> 32: the rounded high word of a product, ties up. SMMULR on a core with the DSP extension. */
static inline int32_t mbx_multiply_high(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (INT64_C(1) << 31)) >> 32);
}

/* (a + 2^(shift - 1)) >> shift, ties up. |a| + 2^(shift - 1) < 2^63, shift 1 to 62. */
static inline int64_t mbx_shift_right_rounded(int64_t a, int shift)
{
    return (a + (INT64_C(1) << (shift - 1))) >> shift;
}

/* The high word of 2 * a * b, rounded to nearest, ties up; -2^31 * -2^31 saturates.
 * Source: gemmlowp, SaturatingRoundingDoublingHighMul. C's division truncates towards zero, as gemmlowp expects. */
static inline int32_t mbx_doubling_high_multiply(int32_t a, int32_t b)
{
    if (a == INT32_MIN && b == INT32_MIN) {
        return INT32_MAX;
    }
    const int64_t product = (int64_t)a * b;
    const int64_t nudge = product >= 0 ? INT64_C(1) << 30 : 1 - (INT64_C(1) << 30);
    return (int32_t)((product + nudge) / (INT64_C(1) << 31));
}

/* a / 2^exponent, rounded to nearest, ties away from zero. exponent 0 to 31. Source: gemmlowp, RoundingDivideByPOT. */
static inline int32_t mbx_divide_by_power_of_two(int32_t a, int exponent)
{
    const int32_t mask = (int32_t)((UINT32_C(1) << exponent) - 1u);
    const int32_t remainder = a & mask;
    const int32_t threshold = (mask >> 1) + (a < 0 ? 1 : 0);
    return (a >> exponent) + (remainder > threshold ? 1 : 0);
}

/* a * multiplier / 2^31 * 2^shift, rounded twice. |a * 2^max(shift, 0)| < 2^31; multiplier Q31; shift -31 to 30.
 * Source: TFLite, MultiplyByQuantizedMultiplier without TFLITE_SINGLE_ROUNDING. */
static inline int32_t mbx_multiply_by_quantized_multiplier(int32_t a, int32_t multiplier, int shift)
{
    const int left = shift > 0 ? shift : 0;
    const int right = shift > 0 ? 0 : -shift;
    return mbx_divide_by_power_of_two(mbx_doubling_high_multiply(a * (INT32_C(1) << left), multiplier), right);
}

static inline int32_t mbx_clamp(int32_t a, int32_t low, int32_t high)
{
    return a < low ? low : (a > high ? high : a);
}

#endif
