/* Twin: mbx_deploy/sim/frontend.py. Each function's formats, ranges and reasons are told there. */
#include "mbx_frontend.h"

#include "mbx_fixed_point.h"

/* Twin: preemphasize(), of the sample at a position of the frame: beyond an end of the recording that of its image. */
static int32_t mbx_emphasized_sample(const mbx_frontend *f, const int16_t *samples, mbx_extent extent, int32_t position)
{
    if (position < extent.first || position >= extent.end) {
        if (f->zero_edges) {
            return 0;
        }
        position = position < extent.first ? 2 * extent.first - position : 2 * (extent.end - 1) - position;
    }
    const int64_t before = position == extent.first ? 0 : samples[position - 1];
    const int64_t product = mbx_shift_right_rounded(before * f->preemphasis_q30,
                                                    MBX_PREEMPHASIS_FRACTION_BITS - MBX_EMPHASIZED_SHIFT);
    return samples[position] * (INT32_C(1) << MBX_EMPHASIZED_SHIFT) - (int32_t)product;
}

/* Twin: apply_window(), of one sample of the frame, with preemphasis. */
static int32_t mbx_windowed_sample(const mbx_frontend *f, const int16_t *samples, mbx_extent extent, uint32_t position)
{
    const int64_t sample = mbx_emphasized_sample(f, samples, extent, (int32_t)position);
    return (int32_t)((sample * f->window_q29[position]) >> (16 + MBX_EMPHASIZED_SHIFT + 1));
}

/* One more than a number below size (a power of two), both written backwards. */
static inline uint32_t mbx_next_reversed(uint32_t reversed, uint32_t size)
{
#if MBX_HAS_DSP
    const uint32_t unused = (uint32_t)__builtin_clz(size) + 1u; /* bits above the number */
    uint32_t result;
    __asm("rbit %0, %1" : "=r"(result) : "r"(reversed << unused));
    result++;
    __asm("rbit %0, %1" : "=r"(result) : "r"(result));
    return result >> unused;
#else
    uint32_t bit = size >> 1;
    while ((reversed & bit) != 0u) {
        reversed ^= bit;
        bit >>= 1;
    }
    return reversed | bit;
#endif
}

/* Twin: apply_window(), and the bit reversal of fft(). Even samples become real parts, odd ones imaginary parts. */
static void mbx_apply_window(const mbx_frontend *f, const int16_t *samples, mbx_extent extent, mbx_bin *bins)
{
    const uint32_t half = f->n_fft / 2u;
    const uint32_t pairs = f->window_length / 2u; /* window_length is even */
    uint32_t reversed = 0;
    for (uint32_t n = 0; n < pairs; n++) {
        mbx_bin *bin = &bins[reversed];
        if (f->preemphasis_q30 == 0) {
            bin->line.re = mbx_multiply_q16(f->window_q29[2u * n], samples[2u * n]);
            bin->line.im = mbx_multiply_q16(f->window_q29[2u * n + 1u], samples[2u * n + 1u]);
        } else {
            bin->line.re = mbx_windowed_sample(f, samples, extent, 2u * n);
            bin->line.im = mbx_windowed_sample(f, samples, extent, 2u * n + 1u);
        }
        reversed = mbx_next_reversed(reversed, half);
    }
    for (uint32_t n = pairs; n < half; n++) {
        bins[reversed].line.re = 0;
        bins[reversed].line.im = 0;
        reversed = mbx_next_reversed(reversed, half);
    }
}

/* Twin: fft_first_pass(). */
static void mbx_fft_first_pass(mbx_bin *bins, uint32_t points)
{
    for (mbx_bin *b = bins; b != bins + points; b += 4) {
        const int32_t sum_r01 = b[0].line.re + b[1].line.re;
        const int32_t sum_i01 = b[0].line.im + b[1].line.im;
        const int32_t dif_r01 = b[0].line.re - b[1].line.re;
        const int32_t dif_i01 = b[0].line.im - b[1].line.im;
        const int32_t sum_r23 = b[2].line.re + b[3].line.re;
        const int32_t sum_i23 = b[2].line.im + b[3].line.im;
        const int32_t dif_r23 = b[2].line.re - b[3].line.re;
        const int32_t dif_i23 = b[2].line.im - b[3].line.im;
        b[0].line.re = sum_r01 + sum_r23;
        b[0].line.im = sum_i01 + sum_i23;
        b[1].line.re = dif_r01 + dif_i23;
        b[1].line.im = dif_i01 - dif_r23;
        b[2].line.re = sum_r01 - sum_r23;
        b[2].line.im = sum_i01 - sum_i23;
        b[3].line.re = dif_r01 - dif_i23;
        b[3].line.im = dif_i01 + dif_r23;
    }
}

/* Twin: fft_stage(). */
static void mbx_fft_stage(mbx_bin *bins, uint32_t points, uint32_t size, const int32_t *twiddle_q31, uint32_t step)
{
    for (uint32_t k = 0; k < size; k++) {
        const int32_t cosine = twiddle_q31[2u * step * k];
        const int32_t sine = twiddle_q31[2u * step * k + 1u];
        for (uint32_t i = k; i < points; i += 2u * size) {
            mbx_bin *a = &bins[i];
            mbx_bin *b = &bins[i + size];
            const int32_t wr = mbx_multiply_high_add(mbx_multiply_high(b->line.re, cosine), b->line.im, sine);
            const int32_t wi = mbx_multiply_high_subtract(mbx_multiply_high(b->line.im, cosine), b->line.re, sine);
            const int32_t ar = a->line.re >> 1;
            const int32_t ai = a->line.im >> 1;
            a->line.re = ar + wr;
            a->line.im = ai + wi;
            b->line.re = ar - wr;
            b->line.im = ai - wi;
        }
    }
}

#if MBX_HAS_DSP
void mbx_fft_two_stages(mbx_bin *bins, uint32_t points, uint32_t size, const int32_t *twiddle_q31, uint32_t step);
#endif

/* Twin: fft(), behind the bit reversal. */
static void mbx_fft(const mbx_frontend *f, mbx_bin *bins)
{
    const uint32_t half = f->n_fft / 2u;
    uint32_t size = 4;
    mbx_fft_first_pass(bins, half);
#if MBX_HAS_DSP
    for (; 2u * size < half; size *= 4u) {
        mbx_fft_two_stages(bins, half, size, f->twiddle_q31, half / size);
    }
#endif
    for (; size < half; size *= 2u) {
        mbx_fft_stage(bins, half, size, f->twiddle_q31, half / size);
    }
}

/* Twin: split_spectrum(). In place; bin n_fft / 2 is written behind the FFT's bins. */
static void mbx_split_spectrum(const mbx_frontend *f, mbx_bin *bins)
{
    const uint32_t half = f->n_fft / 2u;
    const int32_t re = bins[0].line.re;
    const int32_t im = bins[0].line.im;
    bins[0].line.re = re + im;
    bins[0].line.im = 0;
    bins[half].line.re = re - im;
    bins[half].line.im = 0;
    for (uint32_t k = 1; k <= half / 2u; k++) {
        mbx_bin *low = &bins[k];
        mbx_bin *high = &bins[half - k];
        const int32_t cosine = f->twiddle_q31[2u * k];
        const int32_t sine = f->twiddle_q31[2u * k + 1u];
        const int32_t even_r = low->line.re + high->line.re;
        const int32_t even_i = low->line.im - high->line.im;
        const int32_t odd_r = low->line.im + high->line.im;
        const int32_t odd_i = high->line.re - low->line.re;
        const int32_t wr = mbx_multiply_high_add(mbx_multiply_high(odd_r, cosine), odd_i, sine);
        const int32_t wi = mbx_multiply_high_subtract(mbx_multiply_high(odd_i, cosine), odd_r, sine);
        high->line.re = (even_r >> 1) - wr;
        high->line.im = wi - (even_i >> 1);
        low->line.re = (even_r >> 1) + wr; /* low is high where k = half / 2: low's formula holds there */
        low->line.im = (even_i >> 1) + wi;
    }
}

/* Twin: power_spectrum(). In place. */
static void mbx_power_spectrum(const mbx_frontend *f, mbx_bin *bins)
{
    for (uint32_t k = 0; k <= f->n_fft / 2u; k++) {
        const int32_t re = bins[k].line.re;
        const int32_t im = bins[k].line.im;
        bins[k].power = (uint64_t)mbx_multiply_s64(re, re) + (uint64_t)mbx_multiply_s64(im, im);
    }
}

/* Twin: mel_energies(). */
static void mbx_mel_energies(const mbx_frontend *f, const mbx_bin *bins, mbx_mel *mels)
{
    const uint32_t *weights_q32 = f->mel_weights_q32;
    for (uint32_t m = 0; m < f->n_mels; m++) {
        const mbx_bin *bin = &bins[f->mel_first[m]];
        uint64_t energy = 0;
        for (uint32_t i = 0; i < f->mel_count[m]; i++) {
            const uint32_t weight = *weights_q32++;
            const uint32_t high = (uint32_t)(bin[i].power >> 32);
            const uint32_t low = (uint32_t)bin[i].power;
            energy = mbx_multiply_add_u64(energy, high, weight);
            energy = mbx_multiply_add_high_u64(energy, low, weight);
        }
        mels[m].energy = energy;
    }
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

/* Twin: log_mel_energies(). In place. */
static void mbx_log_mel_energies(const mbx_frontend *f, mbx_mel *mels)
{
    for (uint32_t m = 0; m < f->n_mels; m++) {
        const uint64_t value = mels[m].energy + f->log_offset;
        const int zeros = mbx_leading_zeros(value);
        const uint64_t mantissa = value << zeros;
        const uint32_t index = (uint32_t)(mantissa >> 55) & 0xFFu;
        const uint32_t fraction = (uint32_t)(mantissa >> 39) & 0xFFFFu;
        const int32_t left = f->log_q24[index];
        const uint32_t rise = (uint32_t)(f->log_q24[index + 1u] - left); /* below 2^16 */
        const int32_t line = left + (int32_t)((rise * fraction) >> 16);
        mels[m].log_q24 = line + (63 - zeros) * f->ln2_q24 - f->log_bias_q24;
    }
}

/* The sum of row_q31[n] * values[n], exact. */
#if MBX_HAS_DSP
int64_t mbx_dot_row(const int32_t *row_q31, const int32_t *values, uint32_t count);
#else
static inline int64_t mbx_dot_row(const int32_t *row_q31, const int32_t *values, uint32_t count)
{
    int64_t accumulator = 0;
    for (uint32_t fours = count / 4u; fours != 0u; fours--) {
        accumulator += mbx_multiply_s64(row_q31[0], values[0]);
        accumulator += mbx_multiply_s64(row_q31[1], values[1]);
        accumulator += mbx_multiply_s64(row_q31[2], values[2]);
        accumulator += mbx_multiply_s64(row_q31[3], values[3]);
        row_q31 += 4;
        values += 4;
    }
    for (uint32_t rest = count % 4u; rest != 0u; rest--) {
        accumulator += mbx_multiply_s64(*row_q31++, *values++);
    }
    return accumulator;
}
#endif

/* A value and its mirror image become their difference and their sum. count is even. */
static void mbx_fold(int32_t *values, uint32_t count)
{
    for (uint32_t n = 0; n < count / 2u; n++) {
        const int32_t left = values[n];
        const int32_t right = values[count - 1u - n];
        values[n] = left - right;
        values[count - 1u - n] = left + right;
    }
}

/* Twin: dct(). Odd rows see the differences of the log-mels and their mirror images, even ones the sums. Of the even
 * rows every other one has that symmetry again: with each fold the sums give way to their own differences and sums. */
static void mbx_dct(const mbx_frontend *f, const mbx_mel *mels, int32_t *coefficients_q16)
{
    int32_t values[MBX_MAX_MELS + 1]; /* differences of each fold, the longest first, then the sums of the last */
    const int32_t *row_q31 = f->dct_q31;
    const uint32_t last = f->n_mels - 1u;
    const uint32_t half = (f->n_mels + 1u) / 2u;
    if (f->n_mfcc == 0u) {
        for (uint32_t m = 0; m <= last; m++) {
            coefficients_q16[m] = (int32_t)mbx_shift_right_rounded(
                mels[m].log_q24, MBX_LOG_MEL_FRACTION_BITS - MBX_COEFFICIENT_FRACTION_BITS);
        }
        return;
    }
    for (uint32_t n = 0; n < half; n++) {
        values[n] = mels[n].log_q24 - mels[last - n].log_q24;
        values[half + n] = mels[n].log_q24 + mels[last - n].log_q24;
    }
    if (f->n_mels % 2u != 0u) { /* the middle one stands alone */
        values[2u * half - 1u] = mels[half - 1u].log_q24;
    }
    for (uint32_t fold = 0; fold < f->dct_folds; fold++) {
        mbx_fold(&values[2u * half - (half >> fold)], half >> fold);
    }
    for (uint32_t k = 0; k < f->n_mfcc; k++) {
        uint32_t fold = 0;
        while (fold < f->dct_folds && (k >> fold) % 2u == 0u) {
            fold++;
        }
        const uint32_t count = half >> fold;
        const uint32_t first = 2u * half - ((k >> fold) % 2u == 0u ? count : 2u * count);
        const int64_t accumulator = mbx_dot_row(row_q31, &values[first], count);
        row_q31 += count;
        coefficients_q16[k] = (int32_t)mbx_shift_right_rounded(
            accumulator, MBX_LOG_MEL_FRACTION_BITS + MBX_DCT_FRACTION_BITS - MBX_COEFFICIENT_FRACTION_BITS);
    }
}

/* Twin: quantize_features(). */
void mbx_quantize_features(const int32_t *coefficients_q16, int8_t *features, int count, int32_t multiplier, int shift,
                           int32_t zero_point)
{
    for (int i = 0; i < count; i++) {
        const int64_t scaled = mbx_shift_right_rounded(mbx_multiply_s64(coefficients_q16[i], multiplier), shift) + zero_point;
        features[i] = (int8_t)(scaled < -128 ? -128 : (scaled > 127 ? 127 : scaled));
    }
}

/* Twin: frame_coefficients(). One call a stage. */
void mbx_frame_coefficients(const mbx_frontend *f, const int16_t *samples, mbx_extent extent,
                            int32_t *coefficients_q16, mbx_frontend_memory memory, mbx_observer observe, void *context)
{
    mbx_bin *bins = memory.bins;
    mbx_mel *mels = memory.mels;
    const uint32_t bins_bytes = (f->n_fft / 2u + 1u) * (uint32_t)sizeof(mbx_bin);
    const uint32_t mels_bytes = f->n_mels * (uint32_t)sizeof(mbx_mel);
    const uint32_t coefficients = f->n_mfcc != 0u ? f->n_mfcc : f->n_mels;

    mbx_apply_window(f, samples, extent, bins);
    if (observe) {
        observe(context, MBX_STAGE_WINDOWED, bins, bins_bytes - (uint32_t)sizeof(mbx_bin));
    }
    mbx_fft(f, bins);
    mbx_split_spectrum(f, bins);
    if (observe) {
        observe(context, MBX_STAGE_SPECTRUM, bins, bins_bytes);
    }
    mbx_power_spectrum(f, bins);
    if (observe) {
        observe(context, MBX_STAGE_POWER, bins, bins_bytes);
    }
    mbx_mel_energies(f, bins, mels);
    if (observe) {
        observe(context, MBX_STAGE_MEL, mels, mels_bytes);
    }
    mbx_log_mel_energies(f, mels);
    if (observe) {
        observe(context, MBX_STAGE_LOG_MEL, mels, mels_bytes);
    }
    mbx_dct(f, mels, coefficients_q16);
    if (observe) {
        observe(context, MBX_STAGE_COEFFICIENTS, coefficients_q16, coefficients * (uint32_t)sizeof(int32_t));
    }
}
