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

#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#define MBX_HAS_DSP 1
#else
#define MBX_HAS_DSP 0
#endif

#if MBX_HAS_DSP && defined(__ARM_FEATURE_MVE)
#define MBX_HAS_HELIUM 1
#else
#define MBX_HAS_HELIUM 0
#endif

/* ARMv6-M multiplies 32 by 32 bits to 32; a product of 64 bits is then four products of halves. */
#ifndef MBX_HAS_LONG_MULTIPLY
#if defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)
#define MBX_HAS_LONG_MULTIPLY 0
#else
#define MBX_HAS_LONG_MULTIPLY 1
#endif
#endif

#if defined(__GNUC__) && defined(__ARM_ARCH_6M__)
#define MBX_HAS_ONLY_THUMB 1
/* From a and b, which it destroys: the sum of middle products in `middle`, what is left of them in `other`, of which
 * bits 16 and up count, and the product of the high halves in a. shift: asrs or lsrs, for signed or unsigned halves. */
#define MBX_MULTIPLY_HALVES(shift)                                                                                     \
    ".syntax unified\n uxth %[other], %[a]\n " shift " %[a], %[a], #16\n uxth %[middle], %[b]\n"                       \
    " " shift " %[b], %[b], #16\n movs %[low], %[middle]\n muls %[low], %[other]\n muls %[middle], %[a]\n"             \
    " lsrs %[low], %[low], #16\n adds %[middle], %[low]\n muls %[other], %[b]\n uxth %[low], %[middle]\n"              \
    " adds %[other], %[low]\n " shift " %[middle], %[middle], #16\n muls %[a], %[b]\n adds %[a], %[middle]\n"          \
    " " shift " %[other], %[other], #16\n" /* carry: bit 15 */
#define MBX_MULTIPLY_OPERANDS                                                                                          \
    [a] "+&l"(a), [b] "+&l"(b), [low] "=&l"(low), [middle] "=&l"(middle), [other] "=&l"(other)
#else
#define MBX_HAS_ONLY_THUMB 0
#endif

/* a * b */
static inline int64_t mbx_multiply_s64(int32_t a, int32_t b)
{
#if MBX_HAS_LONG_MULTIPLY
    return (int64_t)a * b;
#elif MBX_HAS_ONLY_THUMB
    const uint32_t product = (uint32_t)a * (uint32_t)b;
    uint32_t low, middle, other;
    __asm(MBX_MULTIPLY_HALVES("asrs") " adds %[a], %[other]" : MBX_MULTIPLY_OPERANDS : : "cc");
    return (int64_t)((uint64_t)(uint32_t)a << 32 | product);
#else
    const int32_t a_low = a & 0xFFFF;
    const int32_t b_low = b & 0xFFFF;
    const int32_t a_high = a >> 16;
    const int32_t b_high = b >> 16;
    const uint32_t low = (uint32_t)a_low * (uint32_t)b_low;
    const int32_t middle = a_high * b_low + (int32_t)(low >> 16); /* below 2^31: 32767 * 65535 + 65534 */
    const int32_t other = a_low * b_high + (middle & 0xFFFF);
    const int32_t high = a_high * b_high + (middle >> 16) + (other >> 16);
    return (int64_t)((uint64_t)(uint32_t)high << 32 | (uint32_t)other << 16 | (low & 0xFFFFu));
#endif
}

/* a * b */
static inline uint64_t mbx_multiply_u64(uint32_t a, uint32_t b)
{
#if MBX_HAS_LONG_MULTIPLY
    return (uint64_t)a * b;
#elif MBX_HAS_ONLY_THUMB
    const uint32_t product = a * b;
    uint32_t low, middle, other;
    __asm(MBX_MULTIPLY_HALVES("lsrs") " adds %[a], %[other]" : MBX_MULTIPLY_OPERANDS : : "cc");
    return (uint64_t)a << 32 | product;
#else
    const uint32_t low = (a & 0xFFFFu) * (b & 0xFFFFu);
    const uint32_t middle = (a >> 16) * (b & 0xFFFFu) + (low >> 16);
    const uint32_t other = (a & 0xFFFFu) * (b >> 16) + (middle & 0xFFFFu);
    const uint32_t high = (a >> 16) * (b >> 16) + (middle >> 16) + (other >> 16);
    return (uint64_t)high << 32 | other << 16 | (low & 0xFFFFu);
#endif
}

/* (a * b + 2^31) >> 32: the rounded high word of a product, ties up. */
static inline int32_t mbx_multiply_high(int32_t a, int32_t b)
{
#if MBX_HAS_DSP
    int32_t result;
    __asm("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
#elif MBX_HAS_LONG_MULTIPLY
    return (int32_t)(((int64_t)a * b + (INT64_C(1) << 31)) >> 32);
#elif MBX_HAS_ONLY_THUMB
    uint32_t low, middle, other;
    __asm(MBX_MULTIPLY_HALVES("asrs") " adcs %[a], %[other]" : MBX_MULTIPLY_OPERANDS : : "cc");
    return a;
#else
    const int32_t a_low = a & 0xFFFF;
    const int32_t b_low = b & 0xFFFF;
    const int32_t a_high = a >> 16;
    const int32_t b_high = b >> 16;
    const int32_t middle = a_high * b_low + (int32_t)(((uint32_t)a_low * (uint32_t)b_low) >> 16);
    const int32_t other = a_low * b_high + (middle & 0xFFFF);
    return a_high * b_high + (middle >> 16) + (((other >> 15) + 1) >> 1);
#endif
}

/* (a * b) >> 16, rounded down. */
static inline int32_t mbx_multiply_q16(int32_t a, int16_t b)
{
#if MBX_HAS_DSP
    int32_t result;
    __asm("smulwb %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
#elif MBX_HAS_LONG_MULTIPLY
    return (int32_t)(((int64_t)a * b) >> 16);
#else
    return (a >> 16) * b + (((a & 0xFFFF) * b) >> 16);
#endif
}

/* addend + mbx_multiply_high(a, b) */
static inline int32_t mbx_multiply_high_add(int32_t addend, int32_t a, int32_t b)
{
#if MBX_HAS_DSP
    int32_t result;
    __asm("smmlar %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
    return result;
#else
    return addend + mbx_multiply_high(a, b);
#endif
}

/* minuend + mbx_multiply_high(-a, b): the product is negated, then rounded */
static inline int32_t mbx_multiply_high_subtract(int32_t minuend, int32_t a, int32_t b)
{
#if MBX_HAS_DSP
    int32_t result;
    __asm("smmlsr %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(minuend));
    return result;
#else
    return minuend + mbx_multiply_high(-a, b);
#endif
}

/* (a + 2^(shift - 1)) >> shift, ties up. |a| + 2^(shift - 1) < 2^63, shift 1 to 62. */
static inline int64_t mbx_shift_right_rounded(int64_t a, int shift)
{
    return (a + (INT64_C(1) << (shift - 1))) >> shift;
}

/* The high word of 2 * a * b, rounded to nearest, ties up; -2^31 * -2^31 saturates.
 * Source: gemmlowp, SaturatingRoundingDoublingHighMul, whose division towards zero, of a product to which 2^30 or
 * 1 - 2^30 is added by its sign, is this shift. */
static inline int32_t mbx_doubling_high_multiply(int32_t a, int32_t b)
{
    if (a == INT32_MIN && b == INT32_MIN) {
        return INT32_MAX;
    }
    return (int32_t)((mbx_multiply_s64(a, b) + (INT64_C(1) << 30)) >> 31);
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

static inline int mbx_leading_zeros(uint64_t value) /* value != 0 */
{
#if defined(__GNUC__)
    return __builtin_clzll(value);
#else
    int zeros = 0;
    for (int step = 32; step != 0; step /= 2) {
        if ((value >> (64 - step)) == 0u) {
            value <<= step;
            zeros += step;
        }
    }
    return zeros;
#endif
}

#endif
