#include "mbx_kernels_dsp.h"

#include <string.h>

#include "mbx_fixed_point.h"
#include "mbx_taps.h"

#define POSITIONS 4u     /* of a pointwise block */
#define GROUP_INPUTS 16u /* of a pointwise block */
#define LANES 4u         /* channels of a depthwise pass: a word of the input */
#define OUTPUTS 6u       /* of a depthwise block */
#define GROUP_TAPS 6u    /* of a depthwise block */
#define MOST_TAPS 25u    /* of a depthwise position whose taps are listed: a kernel of 5 x 5 */
#define ADD_LEFT_SHIFT 20

void mbx_pointwise_block(const int16_t *pairs, const mbx_pointwise_dsp_call *call, int8_t *output, uint32_t stride);
void mbx_pointwise_two(const int16_t *pairs, const mbx_pointwise_dsp_call *call, int8_t *output, uint32_t stride);

/* Where a depthwise call keeps what it works on, of four channels: taps, a padded line and its outputs. The lengths are
 * those of a lane. mbx_depthwise_lanes.S knows the layout. */
typedef struct {
    uint32_t groups;
    int16_t *taps;
    int16_t *lines;
    int8_t *results;
    uint32_t taps_length;   /* of four int16: a pair for even outputs, a pair for odd ones */
    uint32_t line_length;   /* int16 */
    uint32_t result_length; /* int8 */
} depthwise_work;

void mbx_depthwise_lanes(const depthwise_work *work, const int32_t *constants, const uint8_t *shifts, int32_t zero,
                         uint32_t blocks);

#if MBX_HAS_DSP

/* Bytes 0 and 2 of a word, and 1 and 3: as two int16, doubled. */
static inline uint32_t doubled_even(uint32_t bytes)
{
    uint32_t result;
    __asm("sxtb16 %0, %1\n sadd16 %0, %0, %0" : "=r"(result) : "r"(bytes));
    return result;
}

static inline uint32_t doubled_odd(uint32_t bytes)
{
    uint32_t result;
    __asm("sxtb16 %0, %1, ror #8\n sadd16 %0, %0, %0" : "=r"(result) : "r"(bytes));
    return result;
}

/* Bytes 0 and 2 of a word, and 1 and 3: as two int16. */
static inline uint32_t extended_even(uint32_t bytes)
{
    uint32_t result;
    __asm("sxtb16 %0, %1" : "=r"(result) : "r"(bytes));
    return result;
}

static inline uint32_t extended_odd(uint32_t bytes)
{
    uint32_t result;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(bytes));
    return result;
}

static inline uint32_t low_halves(uint32_t first, uint32_t second)
{
    uint32_t result;
    __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(first), "r"(second));
    return result;
}

static inline uint32_t high_halves(uint32_t first, uint32_t second)
{
    uint32_t result;
    __asm("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(second), "r"(first));
    return result;
}

static inline int32_t saturate_s8(int32_t value)
{
    __asm("ssat %0, #8, %0" : "+r"(value));
    return value;
}

/* Adds to four sums the products of four bytes, less the zero point, and four weights. zeros: two of -zero, int16. */
static inline void multiply_four(int32_t sums[4], uint32_t bytes, uint32_t zeros, uint32_t weights)
{
    uint32_t x;
    uint32_t w;
    __asm("sxtab16 %[x], %[zeros], %[bytes]\n sxtb16 %[w], %[weights]\n"
          " smlabb %[s0], %[x], %[w], %[s0]\n smlatt %[s2], %[x], %[w], %[s2]\n"
          " sxtab16 %[x], %[zeros], %[bytes], ror #8\n sxtb16 %[w], %[weights], ror #8\n"
          " smlabb %[s1], %[x], %[w], %[s1]\n smlatt %[s3], %[x], %[w], %[s3]"
          : [s0] "+r"(sums[0]), [s1] "+r"(sums[1]), [s2] "+r"(sums[2]), [s3] "+r"(sums[3]), [x] "=&r"(x), [w] "=&r"(w)
          : [bytes] "r"(bytes), [zeros] "r"(zeros), [weights] "r"(weights));
}

#else

static inline uint32_t doubled_even(uint32_t bytes)
{
    const int32_t low = 2 * (int8_t)bytes;
    const int32_t high = 2 * (int8_t)(bytes >> 16);
    return ((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16;
}

static inline uint32_t doubled_odd(uint32_t bytes)
{
    return doubled_even(bytes >> 8);
}

static inline uint32_t extended_even(uint32_t bytes)
{
    const int32_t low = (int8_t)bytes;
    const int32_t high = (int8_t)(bytes >> 16);
    return ((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16;
}

static inline uint32_t extended_odd(uint32_t bytes)
{
    return extended_even(bytes >> 8);
}

static inline uint32_t low_halves(uint32_t first, uint32_t second)
{
    return (first & 0xFFFFu) | second << 16;
}

static inline uint32_t high_halves(uint32_t first, uint32_t second)
{
    return first >> 16 | (second & 0xFFFF0000u);
}

static inline int32_t saturate_s8(int32_t value)
{
    return mbx_clamp(value, -128, 127);
}

static inline void multiply_four(int32_t sums[4], uint32_t bytes, uint32_t zeros, uint32_t weights)
{
    for (uint32_t i = 0; i < 4u; i++) {
        sums[i] += ((int8_t)(bytes >> 8u * i) + (int16_t)zeros) * (int8_t)(weights >> 8u * i);
    }
}

#endif

static inline uint32_t load_word(const int8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline void store_word(void *bytes, uint32_t word)
{
    memcpy(bytes, &word, sizeof word);
}

/* The word at column i of a row of count bytes, zeros behind its end. */
static uint32_t load_tail(const int8_t *row, uint32_t i, uint32_t count)
{
    uint32_t word = 0;
    if (i < count) {
        memcpy(&word, row + i, count - i < sizeof word ? count - i : sizeof word);
    }
    return word;
}

/* Up to four positions as [groups * 8][4] pairs of inputs (0, 2), (1, 3), (4, 6), ...; of one or two, the first two. */
static void expand_block(const mbx_pointwise_dsp_call *c, const int8_t *input, uint32_t positions, int16_t *pairs)
{
    const uint32_t whole = c->in_channels & ~3u;
    const uint32_t expanded = positions <= POSITIONS / 2u ? POSITIONS / 2u : POSITIONS;
    for (uint32_t p = 0; p < expanded; p++) {
        const int8_t *row = input + (p < positions ? p : positions - 1u) * c->in_channels;
        int16_t *out = pairs + 2u * p;
        for (uint32_t i = 0; i < whole; i += 4u) {
            const uint32_t word = load_word(row + i);
            store_word(out, doubled_even(word));
            store_word(out + 2u * POSITIONS, doubled_odd(word));
            out += 4u * POSITIONS;
        }
        for (uint32_t i = whole; i < c->groups * GROUP_INPUTS; i += 4u) {
            const uint32_t word = load_tail(row, i, c->in_channels);
            store_word(out, doubled_even(word));
            store_word(out + 2u * POSITIONS, doubled_odd(word));
            out += 4u * POSITIONS;
        }
    }
}

#if !MBX_HAS_DSP

/* The functions of the .S files, for a machine that checks what a core with the DSP extension will compute. */

static int8_t requantize_doubled(uint32_t doubled, int32_t multiplier, int32_t rounding, int32_t shift)
{
    const int32_t high = mbx_multiply_high((int32_t)doubled, multiplier);
    return (int8_t)saturate_s8((((high + (high >> 31)) + rounding) >> shift) >> 1);
}

static void multiply_positions(const int16_t *pairs, const mbx_pointwise_dsp_call *call, int8_t *output, uint32_t stride,
                               uint32_t positions)
{
    const uint32_t inputs = (uint32_t)call->groups * GROUP_INPUTS;
    for (uint32_t o = 0; o < call->out_pairs; o++) {
        const int16_t *weights = call->weights + o * inputs;
        const int32_t *channel = call->channels + 4u * o;
        for (uint32_t p = 0; p < positions; p++) {
            uint32_t first = (uint32_t)channel[0];
            uint32_t both = (uint32_t)channel[1];
            for (uint32_t i = 0; i < inputs; i++) {
                const int32_t x = pairs[2u * (i / 2u * POSITIONS + p) + i % 2u];
                first += (uint32_t)(x * (int8_t)weights[i]);
                both += (uint32_t)(x * weights[i]);
            }
            const uint32_t sums[2] = {first, (uint32_t)((int32_t)(both - first) >> 8)};
            for (uint32_t i = 0; i < 2u; i++) {
                const int32_t shift = call->shifts[2u * o + i];
                const int32_t rounding = (2 * call->zero_point + 1) * (INT32_C(1) << shift);
                output[p * stride + 2u * o + i] = requantize_doubled(sums[i], channel[2u + i], rounding, shift);
            }
        }
    }
}

void mbx_pointwise_block(const int16_t *pairs, const mbx_pointwise_dsp_call *call, int8_t *output, uint32_t stride)
{
    multiply_positions(pairs, call, output, stride, POSITIONS);
}

void mbx_pointwise_two(const int16_t *pairs, const mbx_pointwise_dsp_call *call, int8_t *output, uint32_t stride)
{
    multiply_positions(pairs, call, output, stride, POSITIONS / 2u);
}

void mbx_depthwise_lanes(const depthwise_work *work, const int32_t *constants, const uint8_t *shifts, int32_t zero,
                         uint32_t blocks)
{
    for (uint32_t lane = 0; lane < LANES; lane++) {
        const int16_t *taps = work->taps + 4u * lane * work->taps_length;
        const int16_t *line = work->lines + lane * work->line_length;
        for (uint32_t o = 0; o < blocks * OUTPUTS; o++) {
            uint32_t sum = (uint32_t)constants[2u * lane];
            for (uint32_t k = 0; k < work->groups * GROUP_TAPS; k++) {
                sum += (uint32_t)(line[o - o % 2u + k] * taps[k / 2u * 4u + o % 2u * 2u + k % 2u]);
            }
            work->results[lane * work->result_length + o] =
                requantize_doubled(sum, constants[2u * lane + 1u], zero * (INT32_C(1) << shifts[lane]), shifts[lane]);
        }
    }
}

#endif

void mbx_pointwise_dsp(const mbx_pointwise_dsp_call *c, const int8_t *input, int8_t *output, void *scratch)
{
    int16_t *pairs = scratch;
    int8_t *rows = (int8_t *)(pairs + c->groups * GROUP_INPUTS * POSITIONS);
    for (uint32_t position = 0; position < c->positions; position += POSITIONS) {
        const uint32_t rest = c->positions - position;
        const uint32_t positions = rest < POSITIONS ? rest : POSITIONS;
        expand_block(c, input, positions, pairs);
        if (c->out_channels % 2u == 0u && positions == POSITIONS) {
            mbx_pointwise_block(pairs, c, output, c->out_channels);
        } else if (c->out_channels % 2u == 0u && positions == POSITIONS / 2u) {
            mbx_pointwise_two(pairs, c, output, c->out_channels);
        } else {
            if (positions <= POSITIONS / 2u) {
                mbx_pointwise_two(pairs, c, rows, 2u * c->out_pairs);
            } else {
                mbx_pointwise_block(pairs, c, rows, 2u * c->out_pairs);
            }
            for (uint32_t p = 0; p < positions; p++) {
                memcpy(output + p * c->out_channels, rows + p * 2u * c->out_pairs, c->out_channels);
            }
        }
        input += POSITIONS * c->in_channels;
        output += POSITIONS * c->out_channels;
    }
}

void mbx_conv_2d_dsp(const mbx_conv_dsp_call *call, const int8_t *input, int8_t *output, void *scratch)
{
    const mbx_conv_call *c = &call->geometry;
    const uint32_t patch_bytes = call->product.in_channels;
    const uint32_t positions = (uint32_t)c->out_height * c->out_width;
    int8_t *patches = scratch;
    void *rest = patches + ((POSITIONS * patch_bytes + 7u) & ~7u);
    mbx_pointwise_dsp_call product = call->product;
    uint32_t y = 0;
    uint32_t x = 0;
    for (uint32_t position = 0; position < positions; position += product.positions) {
        product.positions = (uint16_t)(positions - position < POSITIONS ? positions - position : POSITIONS);
        for (uint32_t p = 0; p < product.positions; p++) {
            mbx_gather_patch(c, input, y, x, patches + p * patch_bytes);
            x++;
            if (x == c->out_width) {
                x = 0;
                y++;
            }
        }
        mbx_pointwise_dsp(&product, patches, output, rest);
        output += (uint32_t)product.positions * product.out_channels;
    }
}

/* Where a tap's first channel lies. */
typedef struct {
    const int8_t *input;
    const int8_t *weights;
} tap;

/* Lists the taps that a position sees. Returns how many. */
static uint32_t list_taps(const mbx_conv_call *c, const int8_t *input, const mbx_view *view, tap taps[MOST_TAPS])
{
    tap *end = taps;
    for (uint32_t y = view->rows.first; y < view->rows.end && view->columns.first < view->columns.end; y++) {
        const int8_t *x = mbx_tap_row(c, input, view, y);
        const int8_t *w = &c->weights[(y * c->kernel_width + view->columns.first) * c->out_channels];
        for (uint32_t columns = view->columns.end - view->columns.first; columns != 0u; columns--) {
            end->input = x;
            end->weights = w;
            end++;
            x += (uint32_t)c->dilation_width * c->in_channels;
            w += c->out_channels;
        }
    }
    return (uint32_t)(end - taps);
}

/* The sums of four channels over the taps, with their biases. */
static inline void sum_taps(const tap *taps, uint32_t count, uint32_t channel, uint32_t zeros, const int32_t *bias,
                            int32_t sums[4])
{
    int32_t s[4] = {bias[0], bias[1], bias[2], bias[3]};
    for (const tap *end = taps + count; taps != end; taps++) {
        multiply_four(s, load_word(taps->input + channel), zeros, load_word(taps->weights + channel));
    }
    memcpy(sums, s, sizeof s);
}

static inline int8_t requantize_sum(const mbx_requantization *r, uint32_t channel, int32_t sum, int32_t zero)
{
    const int32_t shift = -r->shift[channel] - 1;
    const int32_t high = mbx_multiply_high(2 * sum, r->multiplier[channel]);
    return (int8_t)saturate_s8((((high + (high >> 31)) + zero * (INT32_C(1) << shift)) >> shift) >> 1);
}

void mbx_depthwise_conv_2d_dsp(const mbx_conv_call *call, const int8_t *input, int8_t *output)
{
    const mbx_requantization *r = &call->requantization;
    const int32_t zero = 2 * r->zero_point + 1;
    const uint32_t zeros = ((uint32_t)-call->input_zero_point & 0xFFFFu) * 0x10001u;
    const uint32_t fours = call->in_channels == call->out_channels ? call->out_channels & ~3u : 0u;
    const uint32_t listed = (uint32_t)call->kernel_height * call->kernel_width <= MOST_TAPS ? fours : 0u;
    tap taps[MOST_TAPS];
    int32_t sums[4];
    for (uint32_t y = 0; y < call->out_height; y++) {
        for (uint32_t x = 0; x < call->out_width; x++) {
            const mbx_view view = mbx_view_of(call, y, x);
            const uint32_t count = listed != 0u ? list_taps(call, input, &view, taps) : 0u;
            for (uint32_t channel = 0; channel < listed; channel += 4u) {
                sum_taps(taps, count, channel, zeros, &r->bias[channel], sums);
                for (uint32_t i = 0; i < 4u; i++) {
                    *output++ = requantize_sum(r, channel + i, sums[i], zero);
                }
            }
            for (uint32_t channel = listed; channel < call->out_channels; channel += 4u) {
                const uint32_t rest = mbx_depthwise_sums(call, input, &view, channel, sums);
                for (uint32_t i = 0; i < rest; i++) {
                    *output++ = requantize_sum(r, channel + i, sums[i], zero);
                }
            }
        }
    }
}

static depthwise_work divide_scratch(const mbx_depthwise_dsp_call *c, void *scratch)
{
    depthwise_work work;
    const uint32_t longest = ((uint32_t)c->positions + c->dilation - 1u) / c->dilation;
    work.groups = (c->kernel + GROUP_TAPS) / GROUP_TAPS; /* kernel + 1 taps: the odd outputs' are shifted */
    work.taps_length = work.groups * GROUP_TAPS / 2u + 1u; /* what pair_taps() writes may be one more */
    work.result_length = (longest + OUTPUTS - 1u) / OUTPUTS * OUTPUTS;
    work.line_length = work.result_length + work.groups * GROUP_TAPS + 2u;
    work.taps = scratch;
    work.lines = work.taps + LANES * 4u * work.taps_length;
    work.results = (int8_t *)(work.lines + LANES * work.line_length);
    return work;
}

/* The taps of a channel, four a word, as pairs for even and for odd outputs; what lies behind them stays zero. */
static void pair_taps(const int8_t *weights, uint32_t kernel, int16_t *taps)
{
    uint32_t before = 0;
    for (uint32_t fours = (kernel + 3u) / 4u; fours != 0u; fours--) {
        const uint32_t word = load_word(weights);
        const uint32_t first = extended_even(word);
        const uint32_t second = extended_odd(word);
        store_word(taps, first);
        store_word(taps + 2, low_halves(before, first));
        store_word(taps + 4, second);
        store_word(taps + 6, low_halves(first >> 16, second));
        before = second >> 16;
        weights += 4;
        taps += 8;
    }
    if (kernel % 4u == 0u) {
        store_word(taps + 2, before);
    }
}

/* Four bytes a position, step apart, as four lines of doubled int16; two positions at a time. */
static void spread_lines(const int8_t *input, uint32_t step, uint32_t count, int16_t *line, uint32_t line_length)
{
    for (uint32_t pairs = count / 2u; pairs != 0u; pairs--) {
        const uint32_t first = load_word(input);
        const uint32_t second = load_word(input + step);
        const uint32_t even = doubled_even(first);
        const uint32_t next_even = doubled_even(second);
        const uint32_t odd = doubled_odd(first);
        const uint32_t next_odd = doubled_odd(second);
        store_word(line, low_halves(even, next_even));
        store_word(line + line_length, low_halves(odd, next_odd));
        store_word(line + 2u * line_length, high_halves(even, next_even));
        store_word(line + 3u * line_length, high_halves(odd, next_odd));
        input += 2u * step;
        line += 2;
    }
    if (count % 2u != 0u) {
        for (uint32_t lane = 0; lane < LANES; lane++) {
            line[lane * line_length] = (int16_t)(2 * input[lane]);
        }
    }
}

/* Four positions of four lines of outputs. */
static inline void gather_four(const int8_t *results, uint32_t result_length, int8_t *output, uint32_t step)
{
    const uint32_t even = 0x00FF00FFu;
    const uint32_t a = load_word(results);
    const uint32_t b = load_word(results + result_length);
    const uint32_t c = load_word(results + 2u * result_length);
    const uint32_t d = load_word(results + 3u * result_length);
    const uint32_t ab_even = (a & even) | (b & even) << 8;
    const uint32_t cd_even = (c & even) | (d & even) << 8;
    const uint32_t ab_odd = (a >> 8 & even) | (b & ~even);
    const uint32_t cd_odd = (c >> 8 & even) | (d & ~even);
    store_word(output, low_halves(ab_even, cd_even));
    store_word(output + step, low_halves(ab_odd, cd_odd));
    store_word(output + 2u * step, high_halves(ab_even, cd_even));
    store_word(output + 3u * step, high_halves(ab_odd, cd_odd));
}

/* Four lines of outputs as four bytes a position, step apart. */
static void gather_lines(const int8_t *results, uint32_t result_length, uint32_t count, int8_t *output, uint32_t step)
{
    for (uint32_t fours = count / 4u; fours != 0u; fours--) {
        gather_four(results, result_length, output, step);
        results += 4;
        output += 4u * step;
    }
    for (uint32_t rest = count % 4u; rest != 0u; rest--) {
        output[0] = results[0];
        output[1] = results[result_length];
        output[2] = results[2u * result_length];
        output[3] = results[3u * result_length];
        results++;
        output += step;
    }
}

/* One phase of four channels, a dense convolution of every dilation-th position. */
static void convolve_phase(const mbx_depthwise_dsp_call *c, const depthwise_work *work, uint32_t phase,
                           uint32_t channel, const int8_t *input, int8_t *output)
{
    const uint32_t step = (uint32_t)c->dilation * c->channels;
    const uint32_t count = ((uint32_t)c->positions + c->dilation - 1u - phase) / c->dilation;
    const uint32_t longest = ((uint32_t)c->in_positions + c->dilation - 1u) / c->dilation;
    const uint32_t in_count = ((uint32_t)c->in_positions + c->dilation - 1u - phase) / c->dilation;
    int16_t *line = work->lines + c->pad / c->dilation;
    spread_lines(input + phase * c->channels, step, in_count, line, work->line_length);
    if (in_count != longest) { /* one less: the padding begins there */
        for (uint32_t lane = 0; lane < LANES; lane++) {
            line[lane * work->line_length + in_count] = (int16_t)(2 * c->input_zero_point);
        }
    }
    mbx_depthwise_lanes(work, c->constants + 2u * channel, c->shifts + channel, 2 * c->zero_point + 1,
                        (count + OUTPUTS - 1u) / OUTPUTS);
    gather_lines(work->results, work->result_length, count, output + phase * c->channels, step);
}

void mbx_depthwise_line_dsp(const mbx_depthwise_dsp_call *c, const int8_t *input, int8_t *output, void *scratch)
{
    const depthwise_work work = divide_scratch(c, scratch);
    const uint32_t row = (c->kernel + 3u) & ~3u;
    const uint32_t phases = c->dilation < c->positions ? c->dilation : c->positions;
    memset(work.taps, 0, LANES * 4u * work.taps_length * sizeof *work.taps);
    for (uint32_t i = 0; i < LANES * work.line_length; i++) {
        work.lines[i] = (int16_t)(2 * c->input_zero_point); /* the padding; the bias takes its share away */
    }
    for (uint32_t channel = 0; channel < c->channels; channel += LANES) {
        for (uint32_t lane = 0; lane < LANES; lane++) {
            pair_taps(c->weights + (channel + lane) * row, c->kernel, work.taps + 4u * lane * work.taps_length);
        }
        for (uint32_t phase = 0; phase < phases; phase++) {
            convolve_phase(c, &work, phase, channel, input + channel, output + channel);
        }
    }
}

/* has_shift: whether the scaled input is divided, too; a constant where this is inlined. */
static inline void add_all(const mbx_add_dsp_call *call, const int8_t *exact, const int8_t *scaled, int8_t *output,
                           int has_shift)
{
    const mbx_add_dsp_call c = *call;
    const int32_t scaled_zero = c.scaled_zero_point * (INT32_C(2) << ADD_LEFT_SHIFT);
    const int32_t exact_zero = c.exact_zero_point * (INT32_C(1) << ADD_LEFT_SHIFT);
    const int32_t scaled_rounding = has_shift ? INT32_C(1) << (c.scaled_shift - 1) : 0;
    const int32_t rounding = (2 * c.zero_point + 1) * (INT32_C(1) << (c.shift - 1));
    for (uint32_t i = 0; i < c.count; i++) {
        int32_t right = mbx_multiply_high(scaled[i] * (INT32_C(2) << ADD_LEFT_SHIFT) - scaled_zero, c.scaled_multiplier);
        if (has_shift) {
            right = (right + (right >> 31) + scaled_rounding) >> c.scaled_shift;
        }
        /* twice the sum; the exact input's share is (x - zero) 2^20 / 2 */
        const int32_t doubled = exact[i] * (INT32_C(1) << ADD_LEFT_SHIFT) - exact_zero + 2 * right;
        const int32_t high = mbx_multiply_high(doubled, c.multiplier);
        output[i] = (int8_t)saturate_s8((high + (high >> 31) + rounding) >> c.shift);
    }
}

void mbx_add_dsp(const mbx_add_dsp_call *call, const int8_t *exact, const int8_t *scaled, int8_t *output)
{
    if (call->scaled_shift != 0u) {
        add_all(call, exact, scaled, output, 1);
    } else {
        add_all(call, exact, scaled, output, 0);
    }
}
