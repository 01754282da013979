#include "mbx_stream.h"

#include <string.h>

#include "mbx_fixed_point.h"

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

#if MBX_HAS_DSP

static inline uint32_t load_word(const void *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline void store_word(void *bytes, uint32_t word)
{
    memcpy(bytes, &word, sizeof word);
}

static inline uint32_t add_halves(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm("sadd16 %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

/* The sums of four channels over all blocks, as two pairs: the newest block is added up, the others move one ahead. */
static inline void add_four(const mbx_stream_mean_call *call, const int8_t *input, int16_t *block, uint32_t sums[2])
{
    const uint32_t channels = call->mean.channels;
    uint32_t even = 0;
    uint32_t odd = 0;
    for (uint32_t rest = call->positions; rest != 0u; rest--) {
        const uint32_t word = load_word(input);
        __asm("sxtab16 %0, %0, %1" : "+r"(even) : "r"(word));
        __asm("sxtab16 %0, %0, %1, ror #8" : "+r"(odd) : "r"(word));
        input += channels;
    }
    uint32_t low, high;
    __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(low) : "r"(even), "r"(odd));
    __asm("pkhtb %0, %1, %2, asr #16" : "=r"(high) : "r"(odd), "r"(even));
    sums[0] = low;
    sums[1] = high;
    for (uint32_t rest = call->blocks - 1u; rest != 0u; rest--) {
        const int16_t *next = block + channels;
        const uint32_t next_low = load_word(next);
        const uint32_t next_high = load_word(next + 2);
        store_word(block, next_low);
        store_word(block + 2, next_high);
        sums[0] = add_halves(sums[0], next_low);
        sums[1] = add_halves(sums[1], next_high);
        block += channels;
    }
    store_word(block, low);
    store_word(block + 2, high);
}

/* The means of those channels that go by fours, where their sums are int16. Returns how many. */
static uint32_t mean_fours(const mbx_stream_mean_call *call, const int8_t *input, int8_t *output, int16_t *blocks,
                           int32_t zero)
{
    const uint32_t positions = (uint32_t)call->positions * call->blocks;
    const uint32_t fours = positions <= 255u ? call->mean.channels & ~3u : 0u;
    for (uint32_t channel = 0; channel < fours; channel += 4u) {
        uint32_t sums[2];
        add_four(call, input + channel, blocks + channel, sums);
        for (uint32_t i = 0; i < 2u; i++) {
            *output++ = mbx_mean_of(&call->mean, (int16_t)sums[i] - zero);
            *output++ = mbx_mean_of(&call->mean, (int16_t)(sums[i] >> 16) - zero);
        }
    }
    return fours;
}

#else

static uint32_t mean_fours(const mbx_stream_mean_call *call, const int8_t *input, int8_t *output, int16_t *blocks,
                           int32_t zero)
{
    (void)call;
    (void)input;
    (void)output;
    (void)blocks;
    (void)zero;
    return 0;
}

#endif

/* Twin: reduce_block(), reduce_blocks(). A block's sum is below 2^15: the compiler limits its positions to 255. */
void mbx_stream_mean(const mbx_stream_mean_call *call, const int8_t *input, int8_t *output, void *sums)
{
    const mbx_mean_call *mean = &call->mean;
    const uint32_t channels = mean->channels;
    const int32_t zero = mean->input_zero_point * (int32_t)call->positions * (int32_t)call->blocks;
    for (uint32_t channel = mean_fours(call, input, output, sums, zero); channel < channels; channel++) {
        int16_t *block = (int16_t *)sums + channel;
        const int8_t *value = input + channel;
        int32_t newest = 0;
        for (uint32_t rest = call->positions; rest != 0u; rest--) {
            newest += *value;
            value += channels;
        }
        int32_t sum = newest - zero;
        for (uint32_t rest = call->blocks - 1u; rest != 0u; rest--) { /* the others move one ahead */
            *block = block[channels];
            sum += *block;
            block += channels;
        }
        *block = (int16_t)newest;
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
