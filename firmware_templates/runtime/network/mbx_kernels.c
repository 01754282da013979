/* Twin: mbx_deploy/sim/kernels.py. */
#include "mbx_kernels.h"

#include <string.h>

#include "mbx_fixed_point.h"
#include "mbx_taps.h"

/* value + zero_point, limited to low..high; limited first, since the sum may leave int32. */
static inline int8_t mbx_to_s8(int32_t value, int32_t zero_point, int32_t low, int32_t high)
{
    return (int8_t)(mbx_clamp(value, low - zero_point, high - zero_point) + zero_point);
}

/* Twin: requantize(). accumulator: with the bias. */
static inline int8_t mbx_requantize(const mbx_requantization *r, uint32_t channel, int32_t accumulator)
{
    const int32_t scaled =
        mbx_multiply_by_quantized_multiplier(accumulator, r->multiplier[channel], r->shift[channel]);
    return mbx_to_s8(scaled, r->zero_point, r->low, r->high);
}

/* Four output channels share one pass over the input. */
static inline void mbx_dot_4(const int8_t *input, const int8_t *weights, uint32_t count, int32_t accumulators[4])
{
    const int8_t *w0 = weights;
    const int8_t *w1 = w0 + count;
    const int8_t *w2 = w1 + count;
    const int8_t *w3 = w2 + count;
    int32_t a0 = 0;
    int32_t a1 = 0;
    int32_t a2 = 0;
    int32_t a3 = 0;
    for (uint32_t i = 0; i < count; i++) {
        const int32_t x = input[i];
        a0 += x * w0[i];
        a1 += x * w1[i];
        a2 += x * w2[i];
        a3 += x * w3[i];
    }
    accumulators[0] += a0;
    accumulators[1] += a1;
    accumulators[2] += a2;
    accumulators[3] += a3;
}

static inline int32_t mbx_dot(const int8_t *input, const int8_t *weights, uint32_t count)
{
    int32_t accumulator = 0;
    for (uint32_t i = 0; i < count; i++) {
        accumulator += input[i] * weights[i];
    }
    return accumulator;
}

/* The outputs of one position; row: its count inputs. */
static void mbx_product(const mbx_requantization *r, const int8_t *weights, const int8_t *row, uint32_t count,
                        int8_t *output, uint32_t out_channels)
{
    const uint32_t fours = out_channels & ~3u;
    for (uint32_t channel = 0; channel < fours; channel += 4u) {
        int32_t accumulators[4] = {r->bias[channel], r->bias[channel + 1u], r->bias[channel + 2u],
                                   r->bias[channel + 3u]};
        mbx_dot_4(row, &weights[channel * count], count, accumulators);
        for (uint32_t i = 0; i < 4u; i++) {
            output[channel + i] = mbx_requantize(r, channel + i, accumulators[i]);
        }
    }
    for (uint32_t channel = fours; channel < out_channels; channel++) {
        const int32_t dot = mbx_dot(row, &weights[channel * count], count);
        output[channel] = mbx_requantize(r, channel, r->bias[channel] + dot);
    }
}

/* Twin: pointwise(). */
void mbx_pointwise(const mbx_pointwise_call *call, const int8_t *input, int8_t *output, int8_t *row)
{
    const uint32_t in_channels = call->in_channels;
    for (uint32_t position = 0; position < call->positions; position++) {
        memcpy(row, input, in_channels); /* the output may overwrite it */
        mbx_product(&call->requantization, call->weights, row, in_channels, output, call->out_channels);
        input += in_channels;
        output += call->out_channels;
    }
}

/* Twin: pointwise(), of one position. */
void mbx_dense(const mbx_pointwise_call *call, const int8_t *input, int8_t *output)
{
    mbx_product(&call->requantization, call->weights, input, call->in_channels, output, call->out_channels);
}

void mbx_gather_patch(const mbx_conv_call *c, const int8_t *input, uint32_t out_y, uint32_t out_x, int8_t *patch)
{
    const uint32_t channels = c->in_channels;
    const int32_t top = mbx_start(out_y, c->stride_height, c->pad_top);
    const int32_t left = mbx_start(out_x, c->stride_width, c->pad_left);
    const mbx_taps rows = mbx_taps_inside(top, c->in_height, c->kernel_height, c->dilation_height);
    const mbx_taps columns = mbx_taps_inside(left, c->in_width, c->kernel_width, c->dilation_width);
    const uint32_t taps = columns.end - columns.first;
    if (rows.end - rows.first != c->kernel_height || taps != c->kernel_width) {
        memset(patch, c->input_zero_point, (uint32_t)c->kernel_height * c->kernel_width * channels);
    }
    if (taps == 0u) {
        return;
    }
    const uint32_t in_x = (uint32_t)(left + (int32_t)(columns.first * c->dilation_width));
    for (uint32_t y = rows.first; y < rows.end; y++) {
        const uint32_t in_y = (uint32_t)(top + (int32_t)(y * c->dilation_height));
        const int8_t *values = &input[(in_y * c->in_width + in_x) * channels];
        int8_t *row = &patch[(y * c->kernel_width + columns.first) * channels];
        if (c->dilation_width == 1u) {
            memcpy(row, values, taps * channels);
        } else {
            for (uint32_t x = 0; x < taps; x++) {
                memcpy(row + x * channels, values + x * c->dilation_width * channels, channels);
            }
        }
    }
}

/* Twin: conv_2d(). */
void mbx_conv_2d(const mbx_conv_call *call, const int8_t *input, int8_t *output, int8_t *patch)
{
    const uint32_t count = (uint32_t)call->kernel_height * call->kernel_width * call->in_channels;
    for (uint32_t y = 0; y < call->out_height; y++) {
        for (uint32_t x = 0; x < call->out_width; x++) {
            mbx_gather_patch(call, input, y, x, patch);
            mbx_product(&call->requantization, call->weights, patch, count, output, call->out_channels);
            output += call->out_channels;
        }
    }
}

/* Twin: depthwise_conv_2d(). */
void mbx_depthwise_conv_2d(const mbx_conv_call *call, const int8_t *input, int8_t *output)
{
    int32_t sums[4];
    for (uint32_t y = 0; y < call->out_height; y++) {
        for (uint32_t x = 0; x < call->out_width; x++) {
            const mbx_view view = mbx_view_of(call, y, x);
            for (uint32_t channel = 0; channel < call->out_channels; channel += 4u) {
                const uint32_t count = mbx_depthwise_sums(call, input, &view, channel, sums);
                for (uint32_t i = 0; i < count; i++) {
                    *output++ = mbx_requantize(&call->requantization, channel + i, sums[i]);
                }
            }
        }
    }
}

/* Twin: depthwise_conv_2d(), of one row. */
void mbx_depthwise_line(const mbx_depthwise_call *call, const int8_t *input, int8_t *output, int8_t *line)
{
    const uint32_t length = call->positions + (call->kernel - 1u) * call->dilation;
    memset(line, call->input_zero_point, length);
    for (uint32_t channel = 0; channel < call->channels; channel++) {
        const int8_t *weights = &call->weights[channel * call->kernel];
        for (uint32_t i = 0; i < call->in_positions; i++) {
            line[call->pad + i] = input[i * call->channels + channel];
        }
        for (uint32_t i = 0; i < call->positions; i++) {
            int32_t accumulator = call->requantization.bias[channel];
            for (uint32_t k = 0; k < call->kernel; k++) {
                accumulator += (line[i + k * call->dilation] - call->input_zero_point) * weights[k];
            }
            output[i * call->channels + channel] = mbx_requantize(&call->requantization, channel, accumulator);
        }
    }
}

#define MBX_ADD_LEFT_SHIFT 20

static inline int32_t mbx_add_scaled(const mbx_add_call *call, int which, int8_t value)
{
    const int32_t shifted = (value - call->zero_point[which]) * (INT32_C(1) << MBX_ADD_LEFT_SHIFT);
    return mbx_multiply_by_quantized_multiplier(shifted, call->multiplier[which], call->shift[which]);
}

/* Twin: add(). */
void mbx_add(const mbx_add_call *call, const int8_t *input, const int8_t *other, int8_t *output)
{
    for (uint32_t i = 0; i < call->count; i++) {
        const int32_t sum = mbx_add_scaled(call, 0, input[i]) + mbx_add_scaled(call, 1, other[i]);
        const int32_t scaled = mbx_multiply_by_quantized_multiplier(sum, call->multiplier[2], call->shift[2]);
        output[i] = mbx_to_s8(scaled, call->zero_point[2], call->low, call->high);
    }
}

int8_t mbx_mean_of(const mbx_mean_call *call, int32_t sum)
{
    const int32_t scaled = mbx_multiply_by_quantized_multiplier(sum, call->multiplier, call->shift);
    return mbx_to_s8(scaled, call->output_zero_point, -128, 127);
}

/* Twin: mean(). */
void mbx_mean(const mbx_mean_call *call, const int8_t *input, int8_t *output)
{
    for (uint32_t row = 0; row < call->rows; row++) {
        for (uint32_t channel = 0; channel < call->channels; channel++) {
            int32_t accumulator = 0;
            for (uint32_t position = 0; position < call->positions; position++) {
                accumulator += input[position * call->channels + channel] - call->input_zero_point;
            }
            *output++ = mbx_mean_of(call, accumulator);
        }
        input += (uint32_t)call->positions * call->channels;
    }
}

/* Twin: mean(), of one row. */
void mbx_mean_stripe(const mbx_mean_stripe_call *call, const int8_t *input, int8_t *output, int32_t *sums)
{
    const mbx_mean_call *mean = &call->mean;
    for (uint32_t channel = 0; channel < mean->channels; channel++) {
        int32_t accumulator = call->is_first ? 0 : sums[channel];
        for (uint32_t position = 0; position < call->positions; position++) {
            accumulator += input[position * mean->channels + channel] - mean->input_zero_point;
        }
        sums[channel] = accumulator;
        if (call->is_last) {
            output[channel] = mbx_mean_of(mean, accumulator);
        }
    }
}

/* Twin: maximum(). */
void mbx_max(const mbx_max_call *call, const int8_t *input, int8_t *output)
{
    for (uint32_t row = 0; row < call->rows; row++) {
        for (uint32_t channel = 0; channel < call->channels; channel++) {
            int8_t largest = input[channel];
            for (uint32_t position = 1; position < call->positions; position++) {
                const int8_t value = input[position * call->channels + channel];
                largest = value > largest ? value : largest;
            }
            *output++ = largest;
        }
        input += call->positions * call->channels;
    }
}

/* Twin: posteriors(). */
void mbx_posteriors(const int8_t *logits, const uint16_t *exponentials_q15, uint16_t *posteriors_q15, uint32_t count)
{
    int32_t largest = -128;
    for (uint32_t i = 0; i < count; i++) {
        largest = logits[i] > largest ? logits[i] : largest;
    }
    uint32_t total = 0; /* count < 2^16, so below 2^31 */
    for (uint32_t i = 0; i < count; i++) {
        total += exponentials_q15[largest - logits[i]];
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t weight = exponentials_q15[largest - logits[i]]; /* at most 2^15 */
        posteriors_q15[i] = (uint16_t)(((weight << 15) + (total >> 1)) / total);
    }
}
