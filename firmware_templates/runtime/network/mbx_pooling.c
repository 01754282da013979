/* Twin: mbx_deploy/sim/pooling.py. */
#include "mbx_pooling.h"

#include "mbx_fixed_point.h"

/* What a window sees along one axis: input [first, end), never empty. */
typedef struct {
    uint32_t first;
    uint32_t end;
} mbx_span;

static inline mbx_span mbx_window_span(uint32_t output, uint32_t stride, uint32_t pad, uint32_t window, uint32_t size)
{
    const int32_t start = (int32_t)(output * stride) - (int32_t)pad;
    const int32_t end = start + (int32_t)window;
    const mbx_span span = {start > 0 ? (uint32_t)start : 0u, end < (int32_t)size ? (uint32_t)end : size};
    return span;
}

/* Twin: pool_average(). The sum is below 2^15 * 2^8. */
void mbx_pool_average(const mbx_pool_call *c, const int8_t *input, int8_t *output)
{
    for (uint32_t y = 0; y < c->out_height; y++) {
        const mbx_span rows = mbx_window_span(y, c->stride_height, c->pad_top, c->window_height, c->in_height);
        for (uint32_t x = 0; x < c->out_width; x++) {
            const mbx_span columns = mbx_window_span(x, c->stride_width, c->pad_left, c->window_width, c->in_width);
            const int32_t count = (int32_t)((rows.end - rows.first) * (columns.end - columns.first));
            for (uint32_t channel = 0; channel < c->channels; channel++) {
                int32_t sum = 0;
                for (uint32_t in_y = rows.first; in_y < rows.end; in_y++) {
                    const int8_t *value = &input[(in_y * c->in_width + columns.first) * c->channels + channel];
                    for (uint32_t in_x = columns.first; in_x < columns.end; in_x++) {
                        sum += *value;
                        value += c->channels;
                    }
                }
                const int32_t mean = (sum > 0 ? sum + count / 2 : sum - count / 2) / count; /* towards zero */
                *output++ = (int8_t)mbx_clamp(mean, c->low, c->high);
            }
        }
    }
}

/* Twin: pool_max(). */
void mbx_pool_max(const mbx_pool_call *c, const int8_t *input, int8_t *output)
{
    for (uint32_t y = 0; y < c->out_height; y++) {
        const mbx_span rows = mbx_window_span(y, c->stride_height, c->pad_top, c->window_height, c->in_height);
        for (uint32_t x = 0; x < c->out_width; x++) {
            const mbx_span columns = mbx_window_span(x, c->stride_width, c->pad_left, c->window_width, c->in_width);
            for (uint32_t channel = 0; channel < c->channels; channel++) {
                int32_t largest = -128;
                for (uint32_t in_y = rows.first; in_y < rows.end; in_y++) {
                    const int8_t *value = &input[(in_y * c->in_width + columns.first) * c->channels + channel];
                    for (uint32_t in_x = columns.first; in_x < columns.end; in_x++) {
                        largest = *value > largest ? *value : largest;
                        value += c->channels;
                    }
                }
                *output++ = (int8_t)mbx_clamp(largest, c->low, c->high);
            }
        }
    }
}
