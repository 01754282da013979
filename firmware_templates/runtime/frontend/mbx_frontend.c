/* Twin: mbx_deploy/sim/frontend.py. Each function's formats, ranges and reasons are told there. */
#include "mbx_frontend.h"

#include "mbx_fixed_point.h"

/* Defined in a first line of this file in a project whose front end asks for them. */
#ifdef MBX_HAS_FRONTEND_OPTIONS
#include "mbx_frontend_options.h"
const uint8_t mbx_frontend_options = 1;
#endif

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

/* n, below size (a power of two), written backwards. before: n - 1 written so; of 0, size - 1. */
static inline uint32_t mbx_reversed(uint32_t n, uint32_t before, uint32_t size)
{
#if MBX_HAS_DSP
    uint32_t result;
    (void)before;
    __asm("rbit %0, %1" : "=r"(result) : "r"(n));
    return result >> ((uint32_t)__builtin_clz(size) + 1u); /* bits above the number */
#else
    uint32_t bit = size >> 1;
    (void)n;
    while ((before & bit) != 0u) {
        before ^= bit;
        bit >>= 1;
    }
    return before | bit;
#endif
}

/* Twin: apply_window(), of samples 2 n and 2 n + 1 without preemphasis: they become one complex number. */
static inline mbx_line mbx_windowed_pair(const int16_t *samples, const int32_t *window_q29, uint32_t n)
{
    const mbx_line line = {mbx_multiply_q16(window_q29[2u * n], samples[2u * n]),
                           mbx_multiply_q16(window_q29[2u * n + 1u], samples[2u * n + 1u])};
    return line;
}

/* Twin: apply_window(), and the bit reversal of fft(). Even samples become real parts, odd ones imaginary parts. */
static void mbx_apply_window(const mbx_frontend *f, const int16_t *samples, mbx_extent extent, mbx_bin *bins)
{
    const uint32_t half = f->n_fft / 2u;
    const uint32_t pairs = f->window_length / 2u; /* window_length is even */
    uint32_t reversed = half - 1u;
    for (uint32_t n = 0; n < half; n++) {
        mbx_line line = {0, 0};
        if (n < pairs && f->preemphasis_q30 == 0) {
            line = mbx_windowed_pair(samples, f->window_q29, n);
        } else if (n < pairs) {
            line.re = mbx_windowed_sample(f, samples, extent, 2u * n);
            line.im = mbx_windowed_sample(f, samples, extent, 2u * n + 1u);
        }
        reversed = mbx_reversed(n, reversed, half);
        bins[reversed].line = line;
    }
}

/* Twin: fft_first_pass(), of four neighbours. */
static inline void mbx_transform_four(mbx_bin b[4], mbx_line b0, mbx_line b1, mbx_line b2, mbx_line b3)
{
    const int32_t sum_r01 = b0.re + b1.re;
    const int32_t sum_i01 = b0.im + b1.im;
    const int32_t dif_r01 = b0.re - b1.re;
    const int32_t dif_i01 = b0.im - b1.im;
    const int32_t sum_r23 = b2.re + b3.re;
    const int32_t sum_i23 = b2.im + b3.im;
    const int32_t dif_r23 = b2.re - b3.re;
    const int32_t dif_i23 = b2.im - b3.im;
    b[0].line.re = sum_r01 + sum_r23;
    b[0].line.im = sum_i01 + sum_i23;
    b[1].line.re = dif_r01 + dif_i23;
    b[1].line.im = dif_i01 - dif_r23;
    b[2].line.re = sum_r01 - sum_r23;
    b[2].line.im = sum_i01 - sum_i23;
    b[3].line.re = dif_r01 - dif_i23;
    b[3].line.im = dif_i01 + dif_r23;
}

/* Twin: fft_first_pass(). */
static void mbx_fft_first_pass(mbx_bin *bins, uint32_t points)
{
    for (mbx_bin *b = bins; b != bins + points; b += 4) {
        mbx_transform_four(b, b[0].line, b[1].line, b[2].line, b[3].line);
    }
}

/* mbx_apply_window() and mbx_fft_first_pass() at once: the inputs n, n + quarter, ... are neighbours once reversed. Of
 * those of n below whole the window covers quarters + 1, of others quarters, 2 or 3; behind it are zeros. */
#if MBX_HAS_DSP
void mbx_window_fours(const int16_t *samples, const int32_t *window_q29, mbx_bin *bins, uint32_t whole,
                      uint32_t quarter, uint32_t quarters);
#else
static void mbx_window_fours(const int16_t *samples, const int32_t *window_q29, mbx_bin *bins, uint32_t whole,
                             uint32_t quarter, uint32_t quarters)
{
    const mbx_line zero = {0, 0};
    uint32_t reversed = quarter - 1u;
    for (uint32_t n = 0; n < quarter; n++) {
        const uint32_t inputs = n < whole ? quarters + 1u : quarters;
        const mbx_line b0 = mbx_windowed_pair(samples, window_q29, n);
        const mbx_line b2 = mbx_windowed_pair(samples, window_q29, n + quarter);
        const mbx_line b1 = inputs > 2u ? mbx_windowed_pair(samples, window_q29, n + 2u * quarter) : zero;
        const mbx_line b3 = inputs > 3u ? mbx_windowed_pair(samples, window_q29, n + 3u * quarter) : zero;
        reversed = mbx_reversed(n, reversed, quarter);
        mbx_transform_four(&bins[4u * reversed], b0, b1, b2, b3);
    }
}
#endif

/* mbx_apply_window(), then mbx_fft_first_pass(). */
static void mbx_window_and_first_pass(const mbx_frontend *f, const int16_t *samples, mbx_extent extent, mbx_bin *bins)
{
    const uint32_t pairs = f->window_length / 2u;
    const uint32_t quarter = f->n_fft / 8u;
    if (f->preemphasis_q30 != 0 || pairs <= 2u * quarter) {
        mbx_apply_window(f, samples, extent, bins);
        mbx_fft_first_pass(bins, f->n_fft / 2u);
    } else {
        const uint32_t quarters = pairs > 3u * quarter ? 3u : 2u;
        mbx_window_fours(samples, f->window_q29, bins, pairs - quarters * quarter, quarter, quarters);
    }
}

/* Twin: fft_stage(). */
#if MBX_HAS_ONLY_THUMB
void mbx_fft_stage(mbx_bin *bins, uint32_t points, uint32_t size, const int32_t *twiddle_q31, uint32_t step);
#elif !MBX_HAS_HELIUM
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
#endif

#if MBX_HAS_HELIUM
void mbx_fft_stage_helium(mbx_bin *bins, uint32_t points, uint32_t size, const int32_t *twiddle_q31, uint32_t step);
#elif MBX_HAS_DSP
void mbx_fft_two_stages(mbx_bin *bins, uint32_t points, uint32_t size, const int32_t *twiddle_q31, uint32_t step);
void mbx_fft_last_stages(mbx_bin *bins, uint32_t points, const int32_t *twiddle_q31);
#endif

/* Twin: fft(), behind its first pass. */
static void mbx_fft(const mbx_frontend *f, mbx_bin *bins)
{
    const uint32_t half = f->n_fft / 2u;
    uint32_t size = 4;
#if MBX_HAS_HELIUM
    for (; size < half; size *= 2u) {
        mbx_fft_stage_helium(bins, half, size, f->twiddle_q31, half / size);
    }
#else
#if MBX_HAS_DSP
    for (; 4u * size < half; size *= 4u) {
        mbx_fft_two_stages(bins, half, size, f->twiddle_q31, half / size);
    }
    if (4u * size == half) {
        mbx_fft_last_stages(bins, half, f->twiddle_q31);
        return;
    }
#endif
    for (; size < half; size *= 2u) {
        mbx_fft_stage(bins, half, size, f->twiddle_q31, half / size);
    }
#endif
}

/* Twin: split_spectrum(), of the lines 0 and half. */
static inline void mbx_split_ends(mbx_line z, mbx_line *low, mbx_line *high)
{
    low->re = z.re + z.im;
    low->im = 0;
    high->re = z.re - z.im;
    high->im = 0;
}

/* Twin: split_spectrum(), of the lines k and half - k. z and mirrored: those of the FFT. */
static inline void mbx_split_pair(mbx_line z, mbx_line mirrored, const int32_t twiddle_q31[2], mbx_line *low,
                                  mbx_line *high)
{
    const int32_t cosine = twiddle_q31[0];
    const int32_t sine = twiddle_q31[1];
    const int32_t even_r = z.re + mirrored.re;
    const int32_t even_i = z.im - mirrored.im;
    const int32_t odd_r = z.im + mirrored.im;
    const int32_t odd_i = mirrored.re - z.re;
    const int32_t wr = mbx_multiply_high_add(mbx_multiply_high(odd_r, cosine), odd_i, sine);
    const int32_t wi = mbx_multiply_high_subtract(mbx_multiply_high(odd_i, cosine), odd_r, sine);
    high->re = (even_r >> 1) - wr;
    high->im = wi - (even_i >> 1);
    low->re = (even_r >> 1) + wr;
    low->im = (even_i >> 1) + wi;
}

/* Twin: power_spectrum(), of one line: |re|, |im| <= 2^30 and a little. */
static inline uint64_t mbx_power(mbx_line line)
{
#if MBX_HAS_LONG_MULTIPLY
    return (uint64_t)((int64_t)line.re * line.re) + (uint64_t)((int64_t)line.im * line.im);
#else
    const int32_t re_low = (int16_t)line.re; /* of halves that are within 2^15 no sum of products leaves int32 */
    const int32_t im_low = (int16_t)line.im;
    const int32_t re_high = (line.re - re_low) >> 16;
    const int32_t im_high = (line.im - im_low) >> 16;
    const uint32_t low = (uint32_t)(re_low * re_low) + (uint32_t)(im_low * im_low);
    const uint32_t high = (uint32_t)(re_high * re_high) + (uint32_t)(im_high * im_high);
    const int32_t middle = re_low * re_high + im_low * im_high;
    return ((uint64_t)high << 32 | low) + ((uint64_t)(uint32_t)(middle >> 15) << 32 | (uint32_t)middle << 17);
#endif
}

/* Twin: split_spectrum(). In place; bin n_fft / 2 is written behind the FFT's bins. */
static void mbx_split_spectrum(const mbx_frontend *f, mbx_bin *bins)
{
    const uint32_t half = f->n_fft / 2u;
    mbx_split_ends(bins[0].line, &bins[0].line, &bins[half].line);
    for (uint32_t k = 1; k <= half / 2u; k++) { /* low is high where k = half / 2: low's formula holds there */
        mbx_line low, high;
        mbx_split_pair(bins[k].line, bins[half - k].line, &f->twiddle_q31[2u * k], &low, &high);
        bins[half - k].line = high;
        bins[k].line = low;
    }
}

/* Twin: power_spectrum(). In place. */
static void mbx_power_spectrum(const mbx_frontend *f, mbx_bin *bins)
{
    for (uint32_t k = 0; k <= f->n_fft / 2u; k++) {
        bins[k].power = mbx_power(bins[k].line);
    }
}

/* mbx_split_spectrum(), then mbx_power_spectrum(): the lines are not stored between them. */
static void mbx_split_powers(const mbx_frontend *f, mbx_bin *bins)
{
    const uint32_t half = f->n_fft / 2u;
    mbx_line low, high;
    mbx_split_ends(bins[0].line, &low, &high);
    bins[0].power = mbx_power(low);
    bins[half].power = mbx_power(high);
    for (uint32_t k = 1; k <= half / 2u; k++) {
        mbx_split_pair(bins[k].line, bins[half - k].line, &f->twiddle_q31[2u * k], &low, &high);
        bins[half - k].power = mbx_power(high);
        bins[k].power = mbx_power(low);
    }
}

/* Twin: mel_energies(). */
#if MBX_HAS_DSP || MBX_HAS_ONLY_THUMB
void mbx_mel_rows(const mbx_bin *bins, const uint16_t *first, const uint16_t *count, const uint32_t *weights_q32,
                  mbx_mel *mels, uint32_t n_mels);
#else
static void mbx_mel_rows(const mbx_bin *bins, const uint16_t *first, const uint16_t *count, const uint32_t *weights_q32,
                         mbx_mel *mels, uint32_t n_mels)
{
    for (uint32_t m = 0; m < n_mels; m++) {
        const mbx_bin *bin = &bins[first[m]];
        uint64_t energy = 0;
        for (uint32_t i = 0; i < count[m]; i++) {
            const uint32_t weight = *weights_q32++;
            const uint32_t high = (uint32_t)(bin[i].power >> 32);
            const uint32_t low = (uint32_t)bin[i].power;
            energy += mbx_multiply_u64(high, weight) + (mbx_multiply_u64(low, weight) >> 32);
        }
        mels[m].energy = energy;
    }
}
#endif

/* What the logarithm is taken of. */
static inline uint64_t mbx_guarded(const mbx_frontend *f, uint64_t energy)
{
#ifdef MBX_HAS_FRONTEND_OPTIONS
    if (f->log_clamp != 0u) {
        return energy > f->log_offset ? energy : f->log_offset;
    }
#endif
    return energy + f->log_offset;
}

/* Twin: log_mel_energies(). In place. */
static void mbx_log_mel_energies(const mbx_frontend *f, mbx_mel *mels)
{
    for (uint32_t m = 0; m < f->n_mels; m++) {
        const uint64_t value = mbx_guarded(f, mels[m].energy);
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

/* Rows of the DCT that see the same values: the exact sum of a row's products, rounded to Q16. Rows lie one behind
 * another, their outputs step apart. */
#if MBX_HAS_DSP || MBX_HAS_ONLY_THUMB
void mbx_dot_rows(const int32_t *row_q31, const int32_t *values, uint32_t count, int32_t *output_q16, uint32_t step,
                  uint32_t rows);
#else
static void mbx_dot_rows(const int32_t *row_q31, const int32_t *values, uint32_t count, int32_t *output_q16,
                         uint32_t step, uint32_t rows)
{
    for (; rows != 0u; rows--) {
        int64_t accumulator = 0;
        for (uint32_t n = 0; n < count; n++) {
            accumulator += mbx_multiply_s64(row_q31[n], values[n]);
        }
        *output_q16 = (int32_t)mbx_shift_right_rounded(
            accumulator, MBX_LOG_MEL_FRACTION_BITS + MBX_DCT_FRACTION_BITS - MBX_COEFFICIENT_FRACTION_BITS);
        row_q31 += count;
        output_q16 += step;
    }
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
    /* Rows 1, 3, 5, ..., then 2, 6, 10, ..., of each fold, and those that see the last sums. */
    for (uint32_t fold = 0; fold <= f->dct_folds + 1u; fold++) {
        const uint32_t level = fold <= f->dct_folds ? fold : f->dct_folds;
        const uint32_t first = fold <= f->dct_folds ? 1u << fold : 0u;
        const uint32_t count = half >> level;
        const uint32_t rows = first < f->n_mfcc ? (f->n_mfcc - first + (2u << level) - 1u) >> (level + 1u) : 0u;
        if (rows != 0u) {
            mbx_dot_rows(row_q31, &values[2u * half - (first != 0u ? 2u * count : count)], count,
                         &coefficients_q16[first], 2u << level, rows);
            row_q31 += rows * count;
        }
    }
}

/* Twin: quantize_features(). */
void mbx_quantize_features(const int32_t *coefficients_q16, int8_t *features, int count, int32_t multiplier, int shift,
                           int32_t zero_point)
{
    const int32_t half = INT32_C(1) << (shift - 33); /* of the product's high word, as is all that is left */
    for (int i = 0; i < count; i++) {
        const int32_t high = (int32_t)(mbx_multiply_s64(coefficients_q16[i], multiplier) >> 32);
        features[i] = (int8_t)mbx_clamp(((high + half) >> (shift - 32)) + zero_point, -128, 127);
    }
}

/* The frame's powers, and what an observer sees on the way to them. */
static inline void mbx_observed_powers(const mbx_frontend *f, const int16_t *samples, mbx_extent extent, mbx_bin *bins,
                                  mbx_observer observe, void *context)
{
    const uint32_t bytes = f->n_fft / 2u * (uint32_t)sizeof(mbx_bin);
    mbx_apply_window(f, samples, extent, bins);
    observe(context, MBX_STAGE_WINDOWED, bins, bytes);
    mbx_fft_first_pass(bins, f->n_fft / 2u);
    mbx_fft(f, bins);
    mbx_split_spectrum(f, bins);
    observe(context, MBX_STAGE_SPECTRUM, bins, bytes + (uint32_t)sizeof(mbx_bin));
    mbx_power_spectrum(f, bins);
    observe(context, MBX_STAGE_POWER, bins, bytes + (uint32_t)sizeof(mbx_bin));
}

/* Twin: frame_coefficients(). */
void mbx_frame_coefficients(const mbx_frontend *f, const int16_t *samples, mbx_extent extent,
                            int32_t *coefficients_q16, mbx_frontend_memory memory, mbx_observer observe, void *context)
{
    mbx_bin *bins = memory.bins;
    mbx_mel *mels = memory.mels;
    const uint32_t mels_bytes = f->n_mels * (uint32_t)sizeof(mbx_mel);
    const uint32_t coefficients = f->n_mfcc != 0u ? f->n_mfcc : f->n_mels;

    if (observe) {
        mbx_observed_powers(f, samples, extent, bins, observe, context);
    } else {
        mbx_window_and_first_pass(f, samples, extent, bins);
        mbx_fft(f, bins);
        mbx_split_powers(f, bins);
    }
#ifdef MBX_HAS_FRONTEND_OPTIONS
    if (f->magnitude != 0u) {
        mbx_magnitude_spectrum(f, bins);
    }
#endif
    mbx_mel_rows(bins, f->mel_first, f->mel_count, f->mel_weights_q32, mels, f->n_mels);
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
