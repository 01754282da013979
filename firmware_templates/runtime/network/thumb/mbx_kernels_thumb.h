/* Kernels for cores without the DSP extension (Cortex-M0+, M3): the bytes of mbx_kernels.h, in fewer instructions.
 *
 * mbx_deploy/kernels.py chooses them for a call that meets their conditions, and lays its constants out as these
 * structs say. No product needs more than 32 bits: ARMv6-M has no wider one.
 */
#ifndef MBX_KERNELS_THUMB_H
#define MBX_KERNELS_THUMB_H

#include "mbx_kernels.h"

/* Inputs are padded to groups of 16. mbx_thumb_blocks.S knows the layout. */
typedef struct {
    uint16_t positions;
    uint16_t in_channels;
    uint16_t out_channels;
    uint16_t groups;
    int16_t zero_point;      /* of the output */
    const uint8_t *weights;  /* [out_channels][groups][16] of w + 128 */
    const int32_t *channels; /* [out_channels] of b, m */
    const uint8_t *shifts;   /* [out_channels] to the right, 1 to 31 */
} mbx_pointwise_thumb_call;

typedef struct {
    uint16_t positions;
    uint16_t in_positions;
    uint16_t channels;
    uint16_t kernel;
    uint16_t dilation;
    uint16_t pad; /* a multiple of dilation */
    int16_t input_zero_point;
    int16_t zero_point;       /* of the output */
    const int8_t *weights;    /* [channels][kernel] */
    const int32_t *constants; /* [channels] of b, m; b with the input's zero point folded in */
    const uint8_t *shifts;    /* [channels] to the right, 1 to 31 */
} mbx_depthwise_thumb_call;

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
} mbx_add_thumb_call;

/* output may be input where out_channels <= in_channels. scratch: see mbx_deploy/kernels.py; 4-byte aligned. */
void mbx_pointwise_thumb(const mbx_pointwise_thumb_call *call, const int8_t *input, int8_t *output, void *scratch);

/* As mbx_depthwise_line(). scratch: see mbx_deploy/kernels.py; 4-byte aligned. */
void mbx_depthwise_line_thumb(const mbx_depthwise_thumb_call *call, const int8_t *input, int8_t *output,
                              void *scratch);

/* output may be one of the inputs. scratch: 256 words. */
void mbx_add_thumb(const mbx_add_thumb_call *call, const int8_t *exact, const int8_t *scaled, int8_t *output,
                   void *scratch);

#endif
