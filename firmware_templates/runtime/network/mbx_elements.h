/* What moves values or maps each by itself. Twin: mbx_deploy/sim/elements.py. */
#ifndef MBX_ELEMENTS_H
#define MBX_ELEMENTS_H

#include <stdint.h>

typedef struct {
    uint32_t count;
    const int8_t *table; /* [256], of -128 first */
} mbx_lookup_call;

typedef struct {
    uint16_t in_height, in_width, in_channels;
    uint16_t out_width, out_channels;
    uint16_t top, left, before; /* added above, to the left, before the channels */
    uint32_t out_bytes;
    int8_t value;
} mbx_pad_call;

typedef struct {
    uint32_t count;
} mbx_reshape_call;

/* output may be input. */
void mbx_lookup(const mbx_lookup_call *call, const int8_t *input, int8_t *output);

/* input [in_height][in_width][in_channels]. */
void mbx_pad(const mbx_pad_call *call, const int8_t *input, int8_t *output);

/* The same bytes elsewhere: only where the input is still needed. */
void mbx_reshape(const mbx_reshape_call *call, const int8_t *input, int8_t *output);

#endif
