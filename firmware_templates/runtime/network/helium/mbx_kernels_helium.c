#include "mbx_kernels_helium.h"

#include <string.h>

#include "mbx_fixed_point.h"
#include "mbx_taps.h"

#define FOUR 4u    /* 32-bit lanes */
#define EIGHT 8u   /* 16-bit lanes: channels of a depthwise position */
#define SIXTEEN 16u /* 8-bit lanes: inputs of a pointwise group, taps of a depthwise one */
#define ADD_LEFT_SHIFT 20

void mbx_pointwise_four_helium(const int8_t *block, const mbx_pointwise_helium_call *call, int8_t *output,
                               const uint32_t offsets[FOUR]);

/* Copies rows as [groups][4 positions][16], the last one in the place of those behind it. */
static void copy_block(const mbx_pointwise_helium_call *c, const int8_t *input, uint32_t positions, int8_t *block);

/* The channel's dot products along its padded line, requantized, to every step-th byte of output. */
static void convolve_line(const mbx_depthwise_helium_call *c, const int8_t *line, uint32_t channel, uint32_t count,
                          int8_t *output, uint32_t step);

/* Every step-th of count bytes, one after another. */
static void gather_line(const int8_t *input, uint32_t step, uint32_t count, int8_t *line);

#if defined(__ARM_FEATURE_MVE)

#include <arm_mve.h>

static void copy_block(const mbx_pointwise_helium_call *c, const int8_t *input, uint32_t positions, int8_t *block)
{
    for (uint32_t p = 0; p < FOUR; p++) {
        const int8_t *row = input + (p < positions ? p : positions - 1u) * c->in_channels;
        int8_t *to = block + p * SIXTEEN;
        for (int32_t left = c->in_channels; left > 0; left -= (int32_t)SIXTEEN) {
            vst1q_s8(to, vldrbq_z_s8(row, vctp8q((uint32_t)left))); /* zeros behind the last one */
            row += SIXTEEN;
            to += FOUR * SIXTEEN;
        }
    }
}

/* Twin: divide_by_power_of_two(). minus_exponent: -31 to 0; fix: -1, or 0 for an exponent of 0, which has no ties. */
static inline int32x4_t divide_four(int32x4_t a, int32_t minus_exponent, int32x4_t fix)
{
    return vrshlq_n_s32(vaddq_s32(a, vshrq_n_s32(vandq_s32(a, fix), 31)), minus_exponent);
}

/* Twin: requantize(). constants: b, m, -s */
static inline int32x4_t requantize_four(int32x4_t sums, const int32_t *constants, int32_t zero_point, int32x4_t low,
                                        int32x4_t high)
{
    const int32x4_t scaled = vqrdmulhq_n_s32(vaddq_n_s32(sums, constants[0]), constants[1]);
    const int32x4_t divided = vrshlq_n_s32(vaddq_s32(scaled, vshrq_n_s32(scaled, 31)), constants[2]);
    return vminq_s32(vmaxq_s32(vqaddq_n_s32(divided, zero_point), low), high);
}

/* Four words as a vector, from the registers in which VMLADAV leaves them; compilers go by way of the stack. */
static inline int32x4_t four_lanes(int32_t first, int32_t second, int32_t third, int32_t fourth)
{
    int32x4_t lanes;
    __asm("vmov %q0[2], %q0[0], %1, %3\n vmov %q0[3], %q0[1], %2, %4"
          : "=&w"(lanes)
          : "r"(first), "r"(second), "r"(third), "r"(fourth));
    return lanes;
}

static inline int32_t dot(const int8_t *line, const int8_t *taps, uint32_t groups)
{
    int32_t sum = 0;
    for (; groups != 0u; groups--) {
        sum = vmladavaq_s8(sum, vldrbq_s8(line), vldrbq_s8(taps));
        line += SIXTEEN;
        taps += SIXTEEN;
    }
    return sum;
}

static inline int32_t dot_32(const int8_t *line, int8x16_t first, int8x16_t second)
{
    return vmladavaq_s8(vmladavq_s8(vldrbq_s8(line), first), vldrbq_s8(line + SIXTEEN), second);
}

static void convolve_line(const mbx_depthwise_helium_call *c, const int8_t *line, uint32_t channel, uint32_t count,
                          int8_t *output, uint32_t step)
{
    const uint32_t groups = (c->kernel + SIXTEEN - 1u) / SIXTEEN;
    const int8_t *taps = c->weights + channel * groups * SIXTEEN;
    const int32_t *constants = c->constants + 3u * channel;
    const int32x4_t low = vdupq_n_s32(c->low);
    const int32x4_t high = vdupq_n_s32(c->high);
    const uint32x4_t offsets = vmulq_n_u32(vidupq_n_u32(0, 1), step);
    const int8x16_t first = vldrbq_s8(taps);
    const int8x16_t second = groups == 2u ? vldrbq_s8(taps + SIXTEEN) : first;
    for (int32_t left = (int32_t)count; left > 0; left -= (int32_t)FOUR) {
        int32x4_t sums;
        if (groups == 1u) {
            sums = four_lanes(vmladavq_s8(vldrbq_s8(line), first), vmladavq_s8(vldrbq_s8(line + 1), first),
                              vmladavq_s8(vldrbq_s8(line + 2), first), vmladavq_s8(vldrbq_s8(line + 3), first));
        } else if (groups == 2u) {
            sums = four_lanes(dot_32(line, first, second), dot_32(line + 1, first, second),
                              dot_32(line + 2, first, second), dot_32(line + 3, first, second));
        } else {
            sums = four_lanes(dot(line, taps, groups), dot(line + 1, taps, groups), dot(line + 2, taps, groups),
                              dot(line + 3, taps, groups));
        }
        sums = requantize_four(sums, constants, c->zero_point, low, high);
        vstrbq_scatter_offset_p_s32(output, offsets, sums, vctp32q((uint32_t)left));
        line += FOUR;
        output += FOUR * step;
    }
}

static void gather_line(const int8_t *input, uint32_t step, uint32_t count, int8_t *line)
{
    const uint32x4_t offsets = vmulq_n_u32(vidupq_n_u32(0, 1), step);
    for (int32_t left = (int32_t)count; left > 0; left -= (int32_t)FOUR) {
        const mve_pred16_t inside = vctp32q((uint32_t)left);
        vstrbq_p_s32(line, vldrbq_gather_offset_z_s32(input, offsets, inside), inside);
        input += FOUR * step;
        line += FOUR;
    }
}

/* As requantize_four(), of channels from one on, offsets apart, to bytes as far apart. */
static inline void requantize_channels(const mbx_requantization *r, uint32_t channel, int32x4_t sums,
                                       uint32x4_t offsets, mve_pred16_t inside, int8_t *output)
{
    const int32x4_t multipliers = vldrwq_gather_shifted_offset_z_s32(r->multiplier + channel, offsets, inside);
    const int32x4_t shifts = vldrbq_gather_offset_z_s32(r->shift + channel, offsets, inside);
    const int32x4_t scaled = vqrdmulhq_s32(sums, multipliers);
    const int32x4_t divided = vrshlq_s32(vaddq_s32(scaled, vshrq_n_s32(scaled, 31)), shifts);
    const int32x4_t limited = vmaxq_s32(vqaddq_n_s32(divided, r->zero_point), vdupq_n_s32(r->low));
    vstrbq_scatter_offset_p_s32(output + channel, offsets, vminq_s32(limited, vdupq_n_s32(r->high)), inside);
}

/* Eight channels of one position, or as many as there are: products of 16-bit lanes, of even channels and of odd ones. */
static void convolve_eight(const mbx_conv_call *c, const int8_t *input, const mbx_view *view, uint32_t channel,
                           int8_t *output)
{
    const uint32_t left = c->out_channels - channel;
    const mve_pred16_t inside = vctp16q(left);
    const mve_pred16_t even_inside = vctp32q((left + 1u) / 2u);
    const mve_pred16_t odd_inside = vctp32q(left / 2u);
    const uint32x4_t even = vidupq_n_u32(0, 2);
    const uint32x4_t odd = vidupq_n_u32(1, 2);
    const int32_t *bias = c->requantization.bias + channel;
    int32x4_t even_sums = vldrwq_gather_shifted_offset_z_s32(bias, even, even_inside);
    int32x4_t odd_sums = vldrwq_gather_shifted_offset_z_s32(bias, odd, odd_inside);
    for (uint32_t y = view->rows.first; y < view->rows.end && view->columns.first < view->columns.end; y++) {
        const int8_t *x = mbx_tap_row(c, input, view, y) + channel;
        const int8_t *w = &c->weights[(y * c->kernel_width + view->columns.first) * c->out_channels + channel];
        for (uint32_t taps = view->columns.end - view->columns.first; taps != 0u; taps--) {
            const int16x8_t values = vsubq_n_s16(vldrbq_z_s16(x, inside), c->input_zero_point);
            const int16x8_t weights = vldrbq_z_s16(w, inside);
            even_sums = vaddq_s32(even_sums, vmullbq_int_s16(values, weights));
            odd_sums = vaddq_s32(odd_sums, vmulltq_int_s16(values, weights));
            x += (uint32_t)c->dilation_width * c->in_channels;
            w += c->out_channels;
        }
    }
    requantize_channels(&c->requantization, channel, even_sums, even, even_inside, output);
    requantize_channels(&c->requantization, channel, odd_sums, odd, odd_inside, output);
}

void mbx_depthwise_conv_2d_helium(const mbx_conv_call *call, const int8_t *input, int8_t *output)
{
    for (uint32_t y = 0; y < call->out_height; y++) {
        for (uint32_t x = 0; x < call->out_width; x++) {
            const mbx_view view = mbx_view_of(call, y, x);
            for (uint32_t channel = 0; channel < call->out_channels; channel += EIGHT) {
                convolve_eight(call, input, &view, channel, output);
            }
            output += call->out_channels;
        }
    }
}

static inline int32x4_t add_share(const mbx_add_call *call, uint32_t which, int32x4_t values, int32x4_t fix)
{
    const int32x4_t shifted = vshlq_n_s32(vsubq_n_s32(values, call->zero_point[which]), ADD_LEFT_SHIFT);
    return divide_four(vqrdmulhq_n_s32(shifted, call->multiplier[which]), call->shift[which], fix);
}

void mbx_add_helium(const mbx_add_call *call, const int8_t *input, const int8_t *other, int8_t *output)
{
    const mbx_add_call c = *call;
    const int32x4_t fixes[3] = {vdupq_n_s32(c.shift[0] != 0 ? -1 : 0), vdupq_n_s32(c.shift[1] != 0 ? -1 : 0),
                                vdupq_n_s32(c.shift[2] != 0 ? -1 : 0)};
    for (int32_t left = (int32_t)c.count; left > 0; left -= (int32_t)FOUR) {
        const mve_pred16_t inside = vctp32q((uint32_t)left);
        const int32x4_t sum = vaddq_s32(add_share(&c, 0, vldrbq_z_s32(input, inside), fixes[0]),
                                        add_share(&c, 1, vldrbq_z_s32(other, inside), fixes[1]));
        int32x4_t result = divide_four(vqrdmulhq_n_s32(sum, c.multiplier[2]), c.shift[2], fixes[2]);
        result = vqaddq_n_s32(result, c.zero_point[2]);
        result = vminq_s32(vmaxq_s32(result, vdupq_n_s32(c.low)), vdupq_n_s32(c.high));
        vstrbq_p_s32(output, result, inside);
        input += FOUR;
        other += FOUR;
        output += FOUR;
    }
}

/* Four channels' sums of the values less the zero point, over positions. */
static inline int32x4_t sum_four(const mbx_mean_call *call, const int8_t *values, uint32_t positions, mve_pred16_t inside)
{
    int32x4_t sums = vdupq_n_s32(-(int32_t)positions * call->input_zero_point);
    for (; positions != 0u; positions--) {
        sums = vaddq_s32(sums, vldrbq_z_s32(values, inside));
        values += call->channels;
    }
    return sums;
}

static void finish_mean(const mbx_mean_call *call, const int32_t *sums, uint32_t count, int8_t *output)
{
    const int32_t zero_point = call->output_zero_point;
    for (uint32_t i = 0; i < count; i++) {
        const int32_t scaled = mbx_multiply_by_quantized_multiplier(sums[i], call->multiplier, call->shift);
        output[i] = (int8_t)(mbx_clamp(scaled, -128 - zero_point, 127 - zero_point) + zero_point);
    }
}

void mbx_mean_helium(const mbx_mean_call *call, const int8_t *input, int8_t *output)
{
    for (uint32_t row = call->rows; row != 0u; row--) {
        for (uint32_t channel = 0; channel < call->channels; channel += FOUR) {
            const uint32_t left = call->channels - channel;
            int32_t lanes[FOUR];
            vst1q_s32(lanes, sum_four(call, input + channel, call->positions, vctp32q(left)));
            finish_mean(call, lanes, left < FOUR ? left : FOUR, output + channel);
        }
        input += (uint32_t)call->positions * call->channels;
        output += call->channels;
    }
}

void mbx_mean_stripe_helium(const mbx_mean_stripe_call *call, const int8_t *input, int8_t *output, int32_t *sums)
{
    const mbx_mean_call *mean = &call->mean;
    for (uint32_t channel = 0; channel < mean->channels; channel += FOUR) {
        const mve_pred16_t inside = vctp32q(mean->channels - channel);
        const int32x4_t found = sum_four(mean, input + channel, call->positions, inside);
        const int32x4_t before = call->is_first ? vdupq_n_s32(0) : vldrwq_z_s32(sums + channel, inside);
        vstrwq_p_s32(sums + channel, vaddq_s32(before, found), inside);
    }
    if (call->is_last) {
        finish_mean(mean, sums, mean->channels, output);
    }
}

static void max_row(const mbx_max_call *call, const int8_t *input, int8_t *output)
{
    for (uint32_t channel = 0; channel < call->channels; channel += SIXTEEN) {
        const mve_pred16_t inside = vctp8q(call->channels - channel);
        const int8_t *values = input + channel;
        int8x16_t largest = vldrbq_z_s8(values, inside);
        for (uint32_t position = 1; position < call->positions; position++) {
            values += call->channels;
            largest = vmaxq_s8(largest, vldrbq_z_s8(values, inside));
        }
        vstrbq_p_s8(output + channel, largest, inside);
    }
}

void mbx_max_helium(const mbx_max_call *call, const int8_t *input, int8_t *output)
{
    for (uint32_t row = call->rows; row != 0u; row--) {
        max_row(call, input, output);
        input += call->positions * call->channels;
        output += call->channels;
    }
}

#else

/* For a machine that checks what a core with Helium will compute. */

static void copy_block(const mbx_pointwise_helium_call *c, const int8_t *input, uint32_t positions, int8_t *block)
{
    memset(block, 0, (size_t)c->groups * FOUR * SIXTEEN);
    for (uint32_t p = 0; p < FOUR; p++) {
        const int8_t *row = input + (p < positions ? p : positions - 1u) * c->in_channels;
        for (uint32_t i = 0; i < c->in_channels; i++) {
            block[(i / SIXTEEN * FOUR + p) * SIXTEEN + i % SIXTEEN] = row[i];
        }
    }
}

static int8_t requantize(uint32_t sum, const int32_t *constants, int32_t zero_point, int32_t low, int32_t high)
{
    const int32_t total = (int32_t)(sum + (uint32_t)constants[0]);
    const int32_t scaled = mbx_multiply_by_quantized_multiplier(total, constants[1], constants[2]);
    return (int8_t)(mbx_clamp(scaled, low - zero_point, high - zero_point) + zero_point);
}

void mbx_pointwise_four_helium(const int8_t *block, const mbx_pointwise_helium_call *call, int8_t *output,
                               const uint32_t offsets[FOUR])
{
    const uint32_t inputs = call->groups * SIXTEEN;
    for (uint32_t o = 0; o < call->out_channels; o++) {
        const int8_t *weights = call->weights + o / 2u * 2u * inputs + o % 2u * SIXTEEN;
        for (uint32_t p = 0; p < FOUR; p++) {
            uint32_t sum = 0;
            for (uint32_t i = 0; i < inputs; i++) {
                const uint32_t group = i / SIXTEEN;
                const uint32_t lane = i % SIXTEEN;
                sum += (uint32_t)(block[(group * FOUR + p) * SIXTEEN + lane] * weights[group * 2u * SIXTEEN + lane]);
            }
            output[offsets[p] + o] = requantize(sum, call->channels + 3u * o, call->zero_point, call->low, call->high);
        }
    }
}

static void convolve_line(const mbx_depthwise_helium_call *c, const int8_t *line, uint32_t channel, uint32_t count,
                          int8_t *output, uint32_t step)
{
    const uint32_t padded = (c->kernel + SIXTEEN - 1u) / SIXTEEN * SIXTEEN;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sum = 0;
        for (uint32_t k = 0; k < padded; k++) {
            sum += (uint32_t)(line[i + k] * c->weights[channel * padded + k]);
        }
        output[i * step] = requantize(sum, c->constants + 3u * channel, c->zero_point, c->low, c->high);
    }
}

static void gather_line(const int8_t *input, uint32_t step, uint32_t count, int8_t *line)
{
    for (uint32_t i = 0; i < count; i++) {
        line[i] = input[i * step];
    }
}

void mbx_depthwise_conv_2d_helium(const mbx_conv_call *call, const int8_t *input, int8_t *output)
{
    mbx_depthwise_conv_2d(call, input, output);
}

void mbx_add_helium(const mbx_add_call *call, const int8_t *input, const int8_t *other, int8_t *output)
{
    mbx_add(call, input, other, output);
}

void mbx_mean_helium(const mbx_mean_call *call, const int8_t *input, int8_t *output)
{
    mbx_mean(call, input, output);
}

void mbx_mean_stripe_helium(const mbx_mean_stripe_call *call, const int8_t *input, int8_t *output, int32_t *sums)
{
    mbx_mean_stripe(call, input, output, sums);
}

void mbx_max_helium(const mbx_max_call *call, const int8_t *input, int8_t *output)
{
    mbx_max(call, input, output);
}

#endif

void mbx_pointwise_helium(const mbx_pointwise_helium_call *c, const int8_t *input, int8_t *output, void *scratch)
{
    for (uint32_t position = 0; position < c->positions; position += FOUR) {
        const uint32_t rest = c->positions - position;
        uint32_t offsets[FOUR];
        for (uint32_t p = 0; p < FOUR; p++) {
            /* those behind the last one on top of it: the same bytes are written there again */
            offsets[p] = c->out_channels * (p < rest ? p : rest - 1u);
        }
        copy_block(c, input, rest, scratch);
        mbx_pointwise_four_helium(scratch, c, output, offsets);
        input += FOUR * c->in_channels;
        output += FOUR * c->out_channels;
    }
}

void mbx_conv_2d_helium(const mbx_conv_helium_call *call, const int8_t *input, int8_t *output, void *scratch)
{
    const mbx_conv_call *c = &call->geometry;
    const uint32_t patch_bytes = call->product.in_channels;
    const uint32_t positions = (uint32_t)c->out_height * c->out_width;
    int8_t *patches = scratch;
    void *rest = patches + ((FOUR * patch_bytes + 7u) & ~7u);
    mbx_pointwise_helium_call product = call->product;
    uint32_t y = 0;
    uint32_t x = 0;
    for (uint32_t position = 0; position < positions; position += product.positions) {
        product.positions = (uint16_t)(positions - position < FOUR ? positions - position : FOUR);
        for (uint32_t p = 0; p < product.positions; p++) {
            mbx_gather_patch(c, input, y, x, patches + p * patch_bytes);
            x++;
            if (x == c->out_width) {
                x = 0;
                y++;
            }
        }
        mbx_pointwise_helium(&product, patches, output, rest);
        output += (uint32_t)product.positions * product.out_channels;
    }
}

void mbx_depthwise_line_helium(const mbx_depthwise_helium_call *c, const int8_t *input, int8_t *output, void *scratch)
{
    int8_t *line = scratch;
    const uint32_t step = (uint32_t)c->dilation * c->channels;
    const uint32_t longest = ((uint32_t)c->positions + c->dilation - 1u) / c->dilation;
    const uint32_t padded = (c->kernel + SIXTEEN - 1u) / SIXTEEN * SIXTEEN;
    /* Each phase is a dense convolution of every dilation-th position. */
    for (uint32_t phase = 0; phase < c->dilation && phase < c->positions; phase++) {
        const uint32_t count = ((uint32_t)c->positions + c->dilation - 1u - phase) / c->dilation;
        const uint32_t in_count = ((uint32_t)c->in_positions + c->dilation - 1u - phase) / c->dilation;
        /* the padding; the bias takes its share away */
        memset(line, c->input_zero_point, (longest + FOUR - 1u) / FOUR * FOUR + padded);
        for (uint32_t channel = 0; channel < c->channels; channel++) {
            const uint32_t offset = channel + phase * c->channels;
            gather_line(input + offset, step, in_count, line + c->pad / c->dilation);
            convolve_line(c, line, channel, count, output + offset, step);
        }
    }
}
