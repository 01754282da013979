/* Twin: mbx_deploy/sim/elements.py. */
#include "mbx_elements.h"

#include <string.h>

/* Twin: lookup(). */
void mbx_lookup(const mbx_lookup_call *call, const int8_t *input, int8_t *output)
{
    const int8_t *zero = call->table + 128;
    for (uint32_t i = 0; i < call->count; i++) {
        output[i] = zero[input[i]];
    }
}

/* Twin: pad(). */
void mbx_pad(const mbx_pad_call *call, const int8_t *input, int8_t *output)
{
    const uint32_t in_row = (uint32_t)call->in_width * call->in_channels;
    memset(output, call->value, call->out_bytes);
    for (uint32_t y = 0; y < call->in_height; y++) {
        int8_t *row = output + (((call->top + y) * call->out_width) + call->left) * call->out_channels + call->before;
        if (call->in_channels == call->out_channels) {
            memcpy(row, input, in_row);
        } else {
            for (uint32_t x = 0; x < call->in_width; x++) {
                memcpy(row + x * call->out_channels, input + x * call->in_channels, call->in_channels);
            }
        }
        input += in_row;
    }
}

/* Twin: cut(), transpose(). */
void mbx_slice(const mbx_slice_call *call, const int8_t *input, int8_t *output)
{
    const int8_t *row = input + call->start;
    for (uint32_t y = 0; y < call->count[0]; y++) {
        const int8_t *column = row;
        for (uint32_t x = 0; x < call->count[1]; x++) {
            const int8_t *run = column;
            for (uint32_t c = 0; c < call->count[2]; c++) {
                memmove(output, run, call->run);
                output += call->run;
                run += call->step[2];
            }
            column += call->step[1];
        }
        row += call->step[0];
    }
}

/* Twin: join(). */
void mbx_join(const mbx_join_call *call, const int8_t *input, const int8_t *other, int8_t *output)
{
    for (uint32_t i = 0; i < call->pieces; i++) {
        memcpy(output, input, call->first);
        memcpy(output + call->first, other, call->second);
        input += call->first;
        other += call->second;
        output += call->first + call->second;
    }
}

/* Twin: resize(). */
void mbx_resize(const mbx_resize_call *call, const int8_t *input, int8_t *output)
{
    for (uint32_t y = 0; y < call->out_height; y++) {
        const int8_t *row = input + call->rows[y] * call->in_row;
        for (uint32_t x = 0; x < call->out_width; x++) {
            memcpy(output, row + (uint32_t)call->columns[x] * call->channels, call->channels);
            output += call->channels;
        }
    }
}

void mbx_reshape(const mbx_reshape_call *call, const int8_t *input, int8_t *output)
{
    memmove(output, input, call->count); /* nowhere else than in place do they overlap */
}
