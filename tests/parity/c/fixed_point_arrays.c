/* The functions of mbx_fixed_point.h over arrays, for tests/parity/test_fixed_point.py. */
#include "mbx_fixed_point.h"

void test_multiply_high(const int32_t *a, const int32_t *b, int32_t *out, int32_t count);
void test_shift_right_rounded(const int64_t *a, const int32_t *shift, int64_t *out, int32_t count);
void test_doubling_high_multiply(const int32_t *a, const int32_t *b, int32_t *out, int32_t count);
void test_divide_by_power_of_two(const int32_t *a, const int32_t *exponent, int32_t *out, int32_t count);
void test_multiply_by_quantized_multiplier(const int32_t *a, const int32_t *multiplier, const int32_t *shift,
                                           int32_t *out, int32_t count);
void test_clamp(const int32_t *a, const int32_t *low, const int32_t *high, int32_t *out, int32_t count);

void test_multiply_high(const int32_t *a, const int32_t *b, int32_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        out[i] = mbx_multiply_high(a[i], b[i]);
    }
}

void test_shift_right_rounded(const int64_t *a, const int32_t *shift, int64_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        out[i] = mbx_shift_right_rounded(a[i], shift[i]);
    }
}

void test_doubling_high_multiply(const int32_t *a, const int32_t *b, int32_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        out[i] = mbx_doubling_high_multiply(a[i], b[i]);
    }
}

void test_divide_by_power_of_two(const int32_t *a, const int32_t *exponent, int32_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        out[i] = mbx_divide_by_power_of_two(a[i], exponent[i]);
    }
}

void test_multiply_by_quantized_multiplier(const int32_t *a, const int32_t *multiplier, const int32_t *shift,
                                           int32_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        out[i] = mbx_multiply_by_quantized_multiplier(a[i], multiplier[i], shift[i]);
    }
}

void test_clamp(const int32_t *a, const int32_t *low, const int32_t *high, int32_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        out[i] = mbx_clamp(a[i], low[i], high[i]);
    }
}
