/* Which taps of a convolution's kernel fall inside its input, and the sums of a depthwise one over them. */
#ifndef MBX_TAPS_H
#define MBX_TAPS_H

#include "mbx_kernels.h"

/* The taps of a kernel that fall inside the input, along one axis: [first, end). */
typedef struct {
    uint32_t first;
    uint32_t end;
} mbx_taps;

static inline mbx_taps mbx_taps_inside(int32_t start, uint32_t size, uint32_t kernel, uint32_t dilation)
{
    mbx_taps taps = {0, 0};
    while (taps.first < kernel && start + (int32_t)(taps.first * dilation) < 0) {
        taps.first++;
    }
    taps.end = taps.first;
    while (taps.end < kernel && start + (int32_t)(taps.end * dilation) < (int32_t)size) {
        taps.end++;
    }
    return taps;
}

/* Where an output's first tap lies in the input; negative in the padding. */
static inline int32_t mbx_start(uint32_t output, uint32_t stride, uint32_t pad)
{
    return (int32_t)(output * stride) - (int32_t)pad;
}

/* What one output position sees. */
typedef struct {
    int32_t top;
    int32_t left;
    mbx_taps rows;
    mbx_taps columns;
} mbx_view;

static inline mbx_view mbx_view_of(const mbx_conv_call *c, uint32_t out_y, uint32_t out_x)
{
    mbx_view view;
    view.top = mbx_start(out_y, c->stride_height, c->pad_top);
    view.left = mbx_start(out_x, c->stride_width, c->pad_left);
    view.rows = mbx_taps_inside(view.top, c->in_height, c->kernel_height, c->dilation_height);
    view.columns = mbx_taps_inside(view.left, c->in_width, c->kernel_width, c->dilation_width);
    return view;
}

/* The input at a row's first tap inside. There is one: columns is not empty. */
static inline const int8_t *mbx_tap_row(const mbx_conv_call *c, const int8_t *input, const mbx_view *view, uint32_t y)
{
    const uint32_t in_y = (uint32_t)(view->top + (int32_t)(y * c->dilation_height));
    const uint32_t in_x = (uint32_t)(view->left + (int32_t)(view->columns.first * c->dilation_width));
    return &input[(in_y * c->in_width + in_x) * c->in_channels];
}

static inline int32_t mbx_depthwise_sum(const mbx_conv_call *c, const int8_t *input, const mbx_view *view,
                                        uint32_t channel, uint32_t in_channel)
{
    const uint32_t value_step = (uint32_t)c->dilation_width * c->in_channels;
    int32_t sum = c->requantization.bias[channel];
    for (uint32_t y = view->rows.first; y < view->rows.end; y++) {
        const int8_t *x = mbx_tap_row(c, input, view, y) + in_channel;
        const int8_t *w = &c->weights[(y * c->kernel_width + view->columns.first) * c->out_channels + channel];
        for (uint32_t taps = view->columns.end - view->columns.first; taps != 0u; taps--) {
            sum += (*x - c->input_zero_point) * *w;
            x += value_step;
            w += c->out_channels;
        }
    }
    return sum;
}

/* Four channels of as many inputs and outputs: their sums stay in registers. */
static inline void mbx_depthwise_sums_4(const mbx_conv_call *c, const int8_t *input, const mbx_view *view,
                                        uint32_t channel, int32_t sums[4])
{
    const uint32_t value_step = (uint32_t)c->dilation_width * c->in_channels;
    const uint32_t weight_step = c->out_channels;
    const int32_t zero = c->input_zero_point;
    const int32_t *bias = &c->requantization.bias[channel];
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    for (uint32_t y = view->rows.first; y < view->rows.end; y++) {
        const int8_t *x = mbx_tap_row(c, input, view, y) + channel;
        const int8_t *w = &c->weights[(y * c->kernel_width + view->columns.first) * weight_step + channel];
        for (uint32_t taps = view->columns.end - view->columns.first; taps != 0u; taps--) {
            s0 += (x[0] - zero) * w[0];
            s1 += (x[1] - zero) * w[1];
            s2 += (x[2] - zero) * w[2];
            s3 += (x[3] - zero) * w[3];
            x += value_step;
            w += weight_step;
        }
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

/* The sums of up to four channels from one on, with their biases. Returns how many. */
static inline uint32_t mbx_depthwise_sums(const mbx_conv_call *c, const int8_t *input, const mbx_view *view,
                                          uint32_t channel, int32_t sums[4])
{
    const uint32_t rest = c->out_channels - channel;
    const uint32_t count = rest < 4u ? rest : 4u;
    if (view->columns.first == view->columns.end) {
        for (uint32_t i = 0; i < count; i++) {
            sums[i] = c->requantization.bias[channel + i];
        }
    } else if (count == 4u && c->out_channels == c->in_channels) {
        mbx_depthwise_sums_4(c, input, view, channel, sums);
    } else {
        const uint32_t multiplier = (uint32_t)c->out_channels / c->in_channels;
        for (uint32_t i = 0; i < count; i++) {
            sums[i] = mbx_depthwise_sum(c, input, view, channel + i, (channel + i) / multiplier);
        }
    }
    return count;
}

#endif
