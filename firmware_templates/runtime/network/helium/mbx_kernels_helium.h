/* Kernels for cores with Helium, the M-profile vector extension (Cortex-M55): the bytes of mbx_kernels.h, sixteen
 * products an instruction.
 *
 * mbx_deploy/kernels.py chooses them for a call that meets their conditions, and lays its constants out as these
 * structs say.
 */
#ifndef MBX_KERNELS_HELIUM_H
#define MBX_KERNELS_HELIUM_H

#include "mbx_kernels.h"

/* Inputs are padded to groups of 16, outputs to pairs. mbx_pointwise_four_helium.S knows the layout. */
typedef struct {
    uint16_t positions;
    uint16_t in_channels;
    uint16_t out_channels;
    uint16_t groups;
    int16_t zero_point; /* of the output */
    int16_t low;
    int16_t high;
    const int8_t *weights;   /* [out pairs][groups][2][16] */
    const int32_t *channels; /* [out pairs][2] of b, m, -s; s 1 to 31, to the right */
} mbx_pointwise_helium_call;

typedef struct {
    mbx_conv_call geometry; /* its weights are the product's */
    mbx_pointwise_helium_call product;
} mbx_conv_helium_call;

typedef struct {
    uint16_t positions;
    uint16_t in_positions;
    uint16_t channels;
    uint16_t kernel;
    uint16_t dilation;
    uint16_t pad; /* a multiple of dilation */
    int16_t input_zero_point;
    int16_t zero_point; /* of the output */
    int16_t low;
    int16_t high;
    const int8_t *weights;    /* [channels][kernel, rounded up to 16] */
    const int32_t *constants; /* [channels] of b, m, -s; b with the input's zero point folded in */
} mbx_depthwise_helium_call;

/* output may be input where out_channels <= in_channels. scratch: see mbx_deploy/kernels.py; 8-byte aligned. */
void mbx_pointwise_helium(const mbx_pointwise_helium_call *call, const int8_t *input, int8_t *output, void *scratch);

/* As mbx_conv_2d(). scratch: see mbx_deploy/kernels.py; 8-byte aligned. */
void mbx_conv_2d_helium(const mbx_conv_helium_call *call, const int8_t *input, int8_t *output, void *scratch);

/* As mbx_depthwise_line(). scratch: see mbx_deploy/kernels.py; 4-byte aligned. */
void mbx_depthwise_line_helium(const mbx_depthwise_helium_call *call, const int8_t *input, int8_t *output,
                               void *scratch);

/* As mbx_depthwise_conv_2d(), with an output channel for each input channel; shifts are -31 to -1. */
void mbx_depthwise_conv_2d_helium(const mbx_conv_call *call, const int8_t *input, int8_t *output);

/* As mbx_add(), mbx_mean(), mbx_mean_stripe(), mbx_max(). */
void mbx_add_helium(const mbx_add_call *call, const int8_t *input, const int8_t *other, int8_t *output);
void mbx_mean_helium(const mbx_mean_call *call, const int8_t *input, int8_t *output);
void mbx_mean_stripe_helium(const mbx_mean_stripe_call *call, const int8_t *input, int8_t *output, int32_t *sums);
void mbx_max_helium(const mbx_max_call *call, const int8_t *input, int8_t *output);

#endif
