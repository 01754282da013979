#include "mbx_kernels_thumb.h"

#include "mbx_fixed_point.h"

#define FOUR 4u          /* outputs of a block */
#define FIVE 5u          /* those of a larger one */
#define GROUP_INPUTS 16u /* of a pointwise block */
#define GROUP_TAPS 4u    /* of a depthwise block's loop */
#define WEIGHT_OFFSET 128
#define ADD_LEFT_SHIFT 20

/* What blocks of a depthwise channel share. mbx_thumb_blocks.S knows the layout. */
typedef struct {
    uint32_t offsets[FIVE]; /* from the first output of a block to each */
    const int32_t *constants;
    uint32_t shift;
    int32_t zero_point;
    const int32_t *taps;
    uint32_t entry; /* taps that the first pass of the unrolled loop leaves out */
    const int32_t *taps_end;
} line_work;

void mbx_pointwise_four(const int32_t *block, const mbx_pointwise_thumb_call *call, int8_t *output,
                        const uint32_t offsets[FOUR]);
void mbx_pointwise_five(const int32_t *block, const mbx_pointwise_thumb_call *call, int8_t *output,
                        const uint32_t offsets[FIVE]);
void mbx_depthwise_four(const int32_t *line, const line_work *work, int8_t *output, uint32_t blocks);
void mbx_depthwise_five(const int32_t *line, const line_work *work, int8_t *output, uint32_t blocks);

/* mbx_doubling_high_multiply() from 32-bit products: |a| < 2^29, m 0 to 2^31 - 1. See mbx_thumb_blocks.S. */
static inline int32_t multiply_by_halves(int32_t a, int32_t m)
{
    const int32_t al = (int16_t)a;
    const int32_t ah = (a - al) >> 16;
    const int32_t ml = m & 0xFFFF;
    const int32_t mh = m >> 16;
    const int32_t middle = al * mh + ((al * ml) >> 16) + ah * ml;
    return 2 * (ah * mh) + ((middle + (1 << 14)) >> 15);
}

/* shift: 1 to 31 */
static inline int32_t divide_rounded(int32_t a, uint32_t shift)
{
    const int32_t below = a + (a >> 31); /* ties away from zero */
    return (below >> shift) + ((below >> (shift - 1u)) & 1);
}

static inline int8_t saturate_s8(int32_t value)
{
    return (int8_t)(value == (int8_t)value ? value : (value >> 31) ^ 127);
}

#if !defined(__thumb__)

/* The functions of mbx_thumb_blocks.S, for a machine that checks what a core will compute. */

static int8_t requantize(uint32_t accumulator, int32_t multiplier, uint32_t shift, int32_t zero_point)
{
    return saturate_s8(divide_rounded(multiply_by_halves((int32_t)accumulator, multiplier), shift) + zero_point);
}

static void multiply_block(const int32_t *block, const mbx_pointwise_thumb_call *call, int8_t *output,
                           const uint32_t *offsets, uint32_t positions)
{
    const uint32_t inputs = call->groups * GROUP_INPUTS;
    for (uint32_t o = 0; o < call->out_channels; o++) {
        const int32_t *channel = call->channels + 2u * o;
        for (uint32_t p = 0; p < positions; p++) {
            uint32_t sum = (uint32_t)channel[0] + (uint32_t)block[p];
            for (uint32_t i = 0; i < inputs; i++) {
                sum += (uint32_t)(block[positions + positions * i + p] * call->weights[o * inputs + i]);
            }
            output[offsets[p] + o] = requantize(sum, channel[1], call->shifts[o], call->zero_point);
        }
    }
}

void mbx_pointwise_four(const int32_t *block, const mbx_pointwise_thumb_call *call, int8_t *output,
                        const uint32_t offsets[FOUR])
{
    multiply_block(block, call, output, offsets, FOUR);
}

void mbx_pointwise_five(const int32_t *block, const mbx_pointwise_thumb_call *call, int8_t *output,
                        const uint32_t offsets[FIVE])
{
    multiply_block(block, call, output, offsets, FIVE);
}

static void convolve_blocks(const int32_t *line, const line_work *work, int8_t *output, uint32_t blocks, uint32_t size)
{
    for (; blocks != 0u; blocks--) {
        for (uint32_t p = size; p-- != 0u;) {
            uint32_t sum = (uint32_t)work->constants[0];
            for (const int32_t *tap = work->taps; tap != work->taps_end; tap++) {
                sum += (uint32_t)(line[p + (uint32_t)(tap - work->taps)] * *tap);
            }
            output[work->offsets[p]] = requantize(sum, work->constants[1], work->shift, work->zero_point);
        }
        line += size;
        output += size * work->offsets[1];
    }
}

void mbx_depthwise_four(const int32_t *line, const line_work *work, int8_t *output, uint32_t blocks)
{
    convolve_blocks(line, work, output, blocks, FOUR);
}

void mbx_depthwise_five(const int32_t *line, const line_work *work, int8_t *output, uint32_t blocks)
{
    convolve_blocks(line, work, output, blocks, FIVE);
}

#endif

/* Distances of a block's outputs, those behind the last one on top of it: the same bytes are written there again. */
static void place_outputs(uint32_t *offsets, uint32_t outputs, uint32_t distance, uint32_t count)
{
    for (uint32_t p = 0; p < outputs; p++) {
        offsets[p] = distance * (p < count ? p : count - 1u);
    }
}

/* Positions as [size] of -128 * sum, then [groups * 16][size] inputs; size: of the block. */
static inline void expand_block(const mbx_pointwise_thumb_call *c, const int8_t *input, uint32_t positions,
                                uint32_t size, int32_t *block)
{
    for (uint32_t p = 0; p < size; p++) {
        const int8_t *row = input + (p < positions ? p : positions - 1u) * c->in_channels;
        int32_t *out = block + size + p;
        int32_t sum = 0;
        for (uint32_t i = 0; i < c->in_channels; i++) {
            const int32_t value = row[i];
            sum += value;
            *out = value;
            out += size;
        }
        for (uint32_t i = c->in_channels; i < c->groups * GROUP_INPUTS; i++) {
            *out = 0;
            out += size;
        }
        block[p] = -WEIGHT_OFFSET * sum;
    }
}

/* Blocks of five are cheaper, where they leave no rest that is dearer. Twin: pointwise_block() of thumb.py. */
void mbx_pointwise_thumb(const mbx_pointwise_thumb_call *c, const int8_t *input, int8_t *output, void *scratch)
{
    uint32_t offsets[FIVE];
    uint32_t rest = c->positions;
    while (rest != 0u) {
        const uint32_t size = rest % FIVE == 0u ? FIVE : FOUR;
        const uint32_t positions = rest < size ? rest : size;
        place_outputs(offsets, size, c->out_channels, positions);
        if (size == FIVE) {
            expand_block(c, input, positions, FIVE, scratch);
            mbx_pointwise_five(scratch, c, output, offsets);
        } else {
            expand_block(c, input, positions, FOUR, scratch);
            mbx_pointwise_four(scratch, c, output, offsets);
        }
        input += positions * c->in_channels;
        output += positions * c->out_channels;
        rest -= positions;
    }
}

/* Every step-th byte of a channel as words; returns where it ends. */
static int32_t *spread_line(const int8_t *input, uint32_t step, uint32_t count, int32_t *line)
{
    for (; count != 0u; count--) {
        *line++ = *input;
        input += step;
    }
    return line;
}

void mbx_depthwise_line_thumb(const mbx_depthwise_thumb_call *c, const int8_t *input, int8_t *output, void *scratch)
{
    const uint32_t step = (uint32_t)c->dilation * c->channels;
    const uint32_t longest = ((uint32_t)c->positions + c->dilation - 1u) / c->dilation;
    const uint32_t length = (longest + FOUR - 1u) / FOUR * FOUR + c->kernel - 1u;
    int32_t *taps = scratch;
    int32_t *line = taps + c->kernel;
    line_work whole = {.zero_point = c->zero_point,
                       .taps = taps,
                       .entry = (GROUP_TAPS - c->kernel % GROUP_TAPS) % GROUP_TAPS,
                       .taps_end = taps + c->kernel};
    place_outputs(whole.offsets, FIVE, step, FIVE);
    /* Each phase is a dense convolution of every dilation-th position. */
    for (uint32_t phase = 0; phase < c->dilation && phase < c->positions; phase++) {
        const uint32_t count = ((uint32_t)c->positions + c->dilation - 1u - phase) / c->dilation;
        const uint32_t in_count = ((uint32_t)c->in_positions + c->dilation - 1u - phase) / c->dilation;
        const uint32_t fives = count % FIVE == 0u ? count / FIVE : 0u; /* blocks, where they leave no rest */
        for (uint32_t i = 0; i < length; i++) {
            line[i] = c->input_zero_point; /* the padding; the bias takes its share away */
        }
        for (uint32_t channel = 0; channel < c->channels; channel++) {
            const uint32_t offset = channel + phase * c->channels;
            int8_t *out = output + offset;
            (void)spread_line(c->weights + channel * c->kernel, 1, c->kernel, taps);
            (void)spread_line(input + offset, step, in_count, line + c->pad / c->dilation);
            whole.constants = c->constants + 2u * channel;
            whole.shift = c->shifts[channel];
            if (fives != 0u) {
                mbx_depthwise_five(line, &whole, out, fives);
                continue;
            }
            if (count >= FOUR) {
                mbx_depthwise_four(line, &whole, out, count / FOUR);
            }
            if (count % FOUR != 0u) {
                const uint32_t done = count / FOUR * FOUR;
                line_work last = whole;
                place_outputs(last.offsets, FOUR, step, count - done);
                mbx_depthwise_four(line + done, &last, out + done * step, 1);
            }
        }
    }
}

void mbx_add_thumb(const mbx_add_thumb_call *call, const int8_t *exact, const int8_t *scaled, int8_t *output,
                   void *scratch)
{
    const mbx_add_thumb_call c = *call;
    int32_t *shares = scratch; /* of each value of the scaled input */
    for (int32_t value = -128; value < 128; value++) {
        const int32_t shifted = (value - c.scaled_zero_point) * (INT32_C(1) << ADD_LEFT_SHIFT);
        shares[value & 0xFF] = mbx_multiply_by_quantized_multiplier(shifted, c.scaled_multiplier, -(int)c.scaled_shift);
    }
    for (uint32_t i = 0; i < c.count; i++) {
        /* the exact input's share is (x - zero) 2^20 / 2 */
        const int32_t share = (exact[i] - c.exact_zero_point) * (INT32_C(1) << (ADD_LEFT_SHIFT - 1));
        const int32_t sum = share + shares[(uint8_t)scaled[i]];
        output[i] = saturate_s8(divide_rounded(multiply_by_halves(sum, c.multiplier), c.shift) + c.zero_point);
    }
}
