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

/* Twin: apply_window(), of one sample of the frame. */
static int32_t mbx_windowed_sample(const mbx_frontend *f, const int16_t *samples, mbx_extent extent, uint32_t position)
{
    if (f->preemphasis_q30 == 0) {
        return (int32_t)(((int64_t)samples[position] * f->window_q29[position]) >> 16);
    }
    const int64_t sample = mbx_emphasized_sample(f, samples, extent, (int32_t)position);
    return (int32_t)((sample * f->window_q29[position]) >> (16 + MBX_EMPHASIZED_SHIFT + 1));
}

/* Twin: apply_window(), and the bit reversal of fft(). Even samples become real parts, odd ones imaginary parts. */
static void mbx_apply_window(const mbx_frontend *f, const int16_t *samples, mbx_extent extent, mbx_bin *bins)
{
    const uint32_t half = f->n_fft / 2u;
    uint32_t reversed = 0;
    for (uint32_t n = 0; n < half; n++) {
        const uint32_t even = 2u * n;
        int32_t re = 0;
        int32_t im = 0;
        if (even < f->window_length) { /* window_length is even */
            re = mbx_windowed_sample(f, samples, extent, even);
            im = mbx_windowed_sample(f, samples, extent, even + 1u);
        }
        bins[reversed].line.re = re;
        bins[reversed].line.im = im;
        uint32_t bit = half >> 1;
        while (bit != 0u && (reversed & bit) != 0u) { /* add one to a number written backwards */
            reversed ^= bit;
            bit >>= 1;
        }
        reversed |= bit;
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
            const int32_t wr = mbx_multiply_high(b->line.re, cosine) + mbx_multiply_high(b->line.im, sine);
            const int32_t wi = mbx_multiply_high(b->line.im, cosine) + mbx_multiply_high(-b->line.re, sine);
            const int32_t ar = a->line.re >> 1;
            const int32_t ai = a->line.im >> 1;
            a->line.re = ar + wr;
            a->line.im = ai + wi;
            b->line.re = ar - wr;
            b->line.im = ai - wi;
        }
    }
}

/* Twin: fft(), behind the bit reversal. */
static void mbx_fft(const mbx_frontend *f, mbx_bin *bins)
{
    const uint32_t half = f->n_fft / 2u;
    mbx_fft_first_pass(bins, half);
    for (uint32_t size = 4; size < half; size *= 2u) {
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
        const int32_t wr = mbx_multiply_high(odd_r, cosine) + mbx_multiply_high(odd_i, sine);
        const int32_t wi = mbx_multiply_high(odd_i, cosine) + mbx_multiply_high(-odd_r, sine);
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
        const int64_t re = bins[k].line.re;
        const int64_t im = bins[k].line.im;
        bins[k].power = (uint64_t)(re * re) + (uint64_t)(im * im);
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
            const uint64_t weight = *weights_q32++;
            const uint64_t power = bin[i].power;
            energy += (power >> 32) * weight + (((power & UINT32_MAX) * weight) >> 32);
        }
        mels[m].energy = energy;
    }
}

static int mbx_leading_zeros(uint64_t value) /* value != 0 */
{
    int zeros = 0;
    for (int step = 32; step != 0; step /= 2) {
        if ((value >> (64 - step)) == 0u) {
            value <<= step;
            zeros += step;
        }
    }
    return zeros;
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

/* Twin: dct(). */
static void mbx_dct(const mbx_frontend *f, const mbx_mel *mels, int32_t *coefficients_q16)
{
    const uint32_t last = f->n_mels - 1u;
    const uint32_t pairs = f->n_mels / 2u;
    const uint32_t half = (f->n_mels + 1u) / 2u;
    if (f->n_mfcc == 0u) {
        for (uint32_t m = 0; m <= last; m++) {
            coefficients_q16[m] = (int32_t)mbx_shift_right_rounded(
                mels[m].log_q24, MBX_LOG_MEL_FRACTION_BITS - MBX_COEFFICIENT_FRACTION_BITS);
        }
        return;
    }
    for (uint32_t k = 0; k < f->n_mfcc; k++) {
        const int32_t *row_q31 = &f->dct_q31[k * half];
        const int32_t odd = -(int32_t)(k & 1u); /* 0 or -1: (x ^ odd) - odd is x or -x */
        int64_t accumulator = 0;
        for (uint32_t n = 0; n < pairs; n++) {
            const int32_t mirrored = (mels[last - n].log_q24 ^ odd) - odd;
            accumulator += (int64_t)row_q31[n] * (mels[n].log_q24 + mirrored);
        }
        if (half != pairs && odd == 0) {
            accumulator += (int64_t)row_q31[pairs] * mels[pairs].log_q24;
        }
        coefficients_q16[k] = (int32_t)mbx_shift_right_rounded(
            accumulator, MBX_LOG_MEL_FRACTION_BITS + MBX_DCT_FRACTION_BITS - MBX_COEFFICIENT_FRACTION_BITS);
    }
}

/* Twin: quantize_features(). */
void mbx_quantize_features(const int32_t *coefficients_q16, int8_t *features, int count, int32_t multiplier, int shift,
                           int32_t zero_point)
{
    for (int i = 0; i < count; i++) {
        const int64_t scaled = mbx_shift_right_rounded((int64_t)coefficients_q16[i] * multiplier, shift) + zero_point;
        features[i] = (int8_t)(scaled < -128 ? -128 : (scaled > 127 ? 127 : scaled));
    }
}

/* Twin: frame_coefficients(). One call a stage. */
void mbx_frame_coefficients(const mbx_frontend *f, const int16_t *samples, mbx_extent extent,
                            int32_t *coefficients_q16, uint64_t *scratch, mbx_observer observe, void *context)
{
    mbx_bin *bins = (mbx_bin *)(void *)scratch;
    mbx_mel *mels = (mbx_mel *)(void *)&scratch[f->n_fft / 2u + 1u];
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
