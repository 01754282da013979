/* The kernels of the network. Activations are int8 (height, width, channels), channels innermost.
 *
 * Twin: mbx_deploy/sim/kernels.py, the same functions in the same order. No sum can overflow: the compiler has proven
 * it for each call from its weights.
 */
#ifndef MBX_KERNELS_H
#define MBX_KERNELS_H

#include <stdint.h>

/* From an accumulator to int8, a row a channel. */
typedef struct {
    const int32_t *bias;       /* [channels] */
    const int32_t *multiplier; /* [channels] Q31 */
    const int8_t *shift;       /* [channels] positive: to the left */
    int16_t zero_point;
    int16_t low;
    int16_t high;
} mbx_requantization;

/* The input's zero point is folded into the bias. */
typedef struct {
    uint16_t positions;
    uint16_t in_channels;
    uint16_t out_channels;
    const int8_t *weights; /* [out_channels][in_channels] */
    mbx_requantization requantization;
} mbx_pointwise_call;

typedef struct {
    uint16_t in_height, in_width, in_channels;
    uint16_t out_height, out_width, out_channels;
    uint16_t kernel_height, kernel_width;
    uint8_t stride_height, stride_width;
    uint8_t dilation_height, dilation_width;
    uint16_t pad_top, pad_left;
    int16_t input_zero_point;
    const int8_t *weights; /* [out][kernel_height][kernel_width][in]; depthwise: [kernel_height][kernel_width][out] */
    mbx_requantization requantization;
} mbx_conv_call;

typedef struct {
    uint32_t count;
    int16_t zero_point[3]; /* of the first input, the second, the output */
    int32_t multiplier[3]; /* likewise */
    int8_t shift[3];       /* likewise; 0 or negative: to the right */
    int16_t low;
    int16_t high;
} mbx_add_call;

typedef struct {
    uint16_t rows;
    uint16_t positions;
    uint16_t channels;
    int16_t input_zero_point;
    int16_t output_zero_point;
    int32_t multiplier;
    int8_t shift;
} mbx_mean_call;

/* Some of the positions of a mean of one row. */
typedef struct {
    mbx_mean_call mean; /* of all positions */
    uint16_t positions;
    uint8_t is_first; /* 0 or 1 */
    uint8_t is_last;  /* likewise: the output is written then */
} mbx_mean_stripe_call;

typedef struct {
    uint32_t rows;
    uint32_t positions;
    uint32_t channels;
} mbx_max_call;

/* A depthwise convolution along one axis, of stride 1, an output channel for each input channel: of a whole line, or of
 * a stripe of it, whose input reaches further than its output. */
typedef struct {
    uint16_t positions;
    uint16_t in_positions; /* those that the outputs see, but for padding */
    uint16_t channels;
    uint16_t kernel;
    uint16_t dilation;
    uint16_t pad;
    int16_t input_zero_point;
    const int8_t *weights; /* [channels][kernel] */
    mbx_requantization requantization;
} mbx_depthwise_call;

/* A fully connected layer of one position: input [in], output [out] elsewhere. */
void mbx_dense(const mbx_pointwise_call *call, const int8_t *input, int8_t *output);

/* A 1x1 convolution, or a fully connected layer of several positions. input [positions][in], output [positions][out].
 * output may be input where out_channels <= in_channels. row: in_channels bytes. */
void mbx_pointwise(const mbx_pointwise_call *call, const int8_t *input, int8_t *output, int8_t *row);

/* The input's zero point is folded into the bias. patch: kernel_height * kernel_width * in_channels bytes. */
void mbx_conv_2d(const mbx_conv_call *call, const int8_t *input, int8_t *output, int8_t *patch);

/* What an output of mbx_conv_2d() sees, the padding included: [kernel_height][kernel_width][in_channels]. */
void mbx_gather_patch(const mbx_conv_call *call, const int8_t *input, uint32_t out_y, uint32_t out_x, int8_t *patch);

/* Output channel c sees input channel c / (out_channels / in_channels). */
void mbx_depthwise_conv_2d(const mbx_conv_call *call, const int8_t *input, int8_t *output);

/* input [in_positions][channels], output [positions][channels]; pad positions before the input, and what lacks behind it,
 * are padding. output may be input where it has as many positions. line: positions + (kernel - 1) * dilation bytes. */
void mbx_depthwise_line(const mbx_depthwise_call *call, const int8_t *input, int8_t *output, int8_t *line);

/* output may be one of the inputs. */
void mbx_add(const mbx_add_call *call, const int8_t *input, const int8_t *other, int8_t *output);

/* input [rows][positions][channels], output [rows][channels]. */
void mbx_mean(const mbx_mean_call *call, const int8_t *input, int8_t *output);
void mbx_max(const mbx_max_call *call, const int8_t *input, int8_t *output);

/* The mean whose values, less the zero point, sum up to sum. */
int8_t mbx_mean_of(const mbx_mean_call *call, int32_t sum);

/* As mbx_mean(), stripe by stripe. sums [channels]: kept from the first to the last. */
void mbx_mean_stripe(const mbx_mean_stripe_call *call, const int8_t *input, int8_t *output, int32_t *sums);

/* Softmax: Q15 posteriors [count]. exponentials_q15 [256]: exp(-d * scale) for a logit d below the largest. */
void mbx_posteriors(const int8_t *logits, const uint16_t *exponentials_q15, uint16_t *posteriors_q15, uint32_t count);

#endif
