/* Kernels for cores with the DSP extension (Cortex-M4, M7, M33): the bytes of mbx_kernels.h, in fewer instructions.
 *
 * mbx_deploy/kernels.py chooses them for a call that meets their conditions, and lays its constants out as these
 * structs say.
 */
#ifndef MBX_KERNELS_DSP_H
#define MBX_KERNELS_DSP_H

#include "mbx_kernels.h"

/* Inputs are padded to groups of 16, outputs to pairs. mbx_pointwise_block.S knows the layout. */
typedef struct {
    uint16_t positions;
    uint16_t in_channels;
    uint16_t out_channels;
    uint16_t out_pairs;
    uint16_t groups;
    int16_t zero_point;      /* of the output */
    const int16_t *weights;  /* [out_pairs][groups][4 quads of inputs][0, 2, 1, 3] of 256 w1 + w0 */
    const int32_t *channels; /* [out_pairs] of 2 b0, 512 b1 + 2 b0, m0, m1 */
    const uint8_t *shifts;   /* [out_pairs] of s0 - 1, s1 - 1 */
} mbx_pointwise_dsp_call;

/* A convolution as products of patches, four at a time. geometry: without weights and requantization. */
typedef struct {
    mbx_conv_call geometry;
    mbx_pointwise_dsp_call product;
} mbx_conv_dsp_call;

typedef struct {
    uint16_t positions;
    uint16_t in_positions;
    uint16_t channels; /* a multiple of 4 */
    uint16_t kernel;   /* at most 47 */
    uint16_t dilation;
    uint16_t pad; /* a multiple of dilation */
    int16_t input_zero_point;
    int16_t zero_point;       /* of the output */
    const int8_t *weights;    /* [channels][quads of taps][0, 2, 1, 3], word-aligned */
    const int32_t *constants; /* [channels] of 2 b, m; b with the input's zero point folded in */
    const uint8_t *shifts;    /* [channels] of s - 1 */
} mbx_depthwise_dsp_call;

/* One input, the exact one, has the larger scale: its share of the sum is a shift. */
typedef struct {
    uint32_t count;
    int16_t exact_zero_point;
    int16_t scaled_zero_point;
    int16_t zero_point;
    uint8_t scaled_shift; /* to the right */
    uint8_t shift;        /* to the right, of the sum; at least 1 */
    int32_t scaled_multiplier;
    int32_t multiplier;
} mbx_add_dsp_call;

/* output may be input where out_channels <= in_channels. scratch: see mbx_deploy/kernels.py; 8-byte aligned. */
void mbx_pointwise_dsp(const mbx_pointwise_dsp_call *call, const int8_t *input, int8_t *output, void *scratch);

/* As mbx_depthwise_conv_2d(); shifts are -22 to -1, and nothing is limited but by int8. */
void mbx_depthwise_conv_2d_dsp(const mbx_conv_call *call, const int8_t *input, int8_t *output);

/* As mbx_conv_2d(). scratch: four patches, to a multiple of 8 bytes, then what mbx_pointwise_dsp() needs. */
void mbx_conv_2d_dsp(const mbx_conv_dsp_call *call, const int8_t *input, int8_t *output, void *scratch);

/* As mbx_depthwise_line(). scratch: see mbx_deploy/kernels.py; 4-byte aligned. */
void mbx_depthwise_line_dsp(const mbx_depthwise_dsp_call *call, const int8_t *input, int8_t *output, void *scratch);

/* output may be one of the inputs. */
void mbx_add_dsp(const mbx_add_dsp_call *call, const int8_t *exact, const int8_t *scaled, int8_t *output);

#endif
