#include "mbx_stream.h"

#include <string.h>

/* Twin: silent_state(). */
void mbx_reset_states(int8_t *arena, const mbx_state *states, uint32_t count)
{
    for (const mbx_state *state = states; state != states + count; state++) {
        int8_t *row = arena + state->offset;
        for (uint32_t i = 0; i < state->rows; i++) {
            memcpy(row, state->row, state->row_bytes);
            row += state->row_bytes;
        }
    }
}

void mbx_keep_rows(const mbx_keep_call *call, const int8_t *input, int8_t *output)
{
    memmove(output, input + call->first, call->bytes);
}

/* Twin: reduce_block(), reduce_blocks(). A block's sum is below 2^15: the compiler limits its positions to 255. */
void mbx_stream_mean(const mbx_stream_mean_call *call, const int8_t *input, int8_t *output, void *sums)
{
    const mbx_mean_call *mean = &call->mean;
    int16_t *blocks = sums;
    const uint32_t channels = mean->channels;
    const uint32_t kept = (call->blocks - 1u) * channels;
    const int32_t zero = mean->input_zero_point * (int32_t)call->positions * (int32_t)call->blocks;
    memmove(blocks, blocks + channels, kept * sizeof *blocks);
    for (uint32_t channel = 0; channel < channels; channel++) {
        int32_t newest = 0;
        for (uint32_t position = 0; position < call->positions; position++) {
            newest += input[position * channels + channel];
        }
        int32_t sum = newest - zero;
        for (uint32_t i = channel; i < kept; i += channels) {
            sum += blocks[i];
        }
        blocks[kept + channel] = (int16_t)newest;
        output[channel] = mbx_mean_of(mean, sum);
    }
}

/* Twin: reduce_block(), reduce_blocks(). */
void mbx_stream_max(const mbx_stream_max_call *call, const int8_t *input, int8_t *output, void *sums)
{
    int8_t *largest = sums;
    const uint32_t channels = call->channels;
    const uint32_t kept = (call->blocks - 1u) * channels;
    memmove(largest, largest + channels, kept);
    for (uint32_t channel = 0; channel < channels; channel++) {
        int8_t newest = input[channel];
        for (uint32_t position = 1; position < call->positions; position++) {
            const int8_t value = input[position * channels + channel];
            newest = value > newest ? value : newest;
        }
        int8_t result = newest;
        for (uint32_t i = channel; i < kept; i += channels) {
            result = largest[i] > result ? largest[i] : result;
        }
        largest[kept + channel] = newest;
        output[channel] = result;
    }
}
