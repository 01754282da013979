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

/* What lies together is copied together: count[0] rows of count[1] columns of count[2] runs. */
typedef struct {
    uint32_t start; /* of the first run, in bytes of the input */
    uint32_t run;   /* bytes */
    uint32_t count[3];
    uint32_t step[3]; /* from one row, column, run to the next, in bytes of the input */
} mbx_slice_call;

/* pieces times first bytes of one input and second bytes of the other. */
typedef struct {
    uint32_t pieces, first, second;
} mbx_join_call;

typedef struct {
    uint32_t in_row; /* bytes of a row of the input */
    uint16_t out_height, out_width, channels;
    const uint16_t *rows;    /* [out_height], of the input */
    const uint16_t *columns; /* [out_width] */
} mbx_resize_call;

typedef struct {
    uint32_t count;
} mbx_reshape_call;

/* output may be input. */
void mbx_lookup(const mbx_lookup_call *call, const int8_t *input, int8_t *output);

/* input [in_height][in_width][in_channels]. */
void mbx_pad(const mbx_pad_call *call, const int8_t *input, int8_t *output);

/* output may be input where what is taken moves to the front, or stays; not where values change their order. */
void mbx_slice(const mbx_slice_call *call, const int8_t *input, int8_t *output);

void mbx_join(const mbx_join_call *call, const int8_t *input, const int8_t *other, int8_t *output);

void mbx_resize(const mbx_resize_call *call, const int8_t *input, int8_t *output);

/* The same bytes elsewhere: only where the input is still needed. */
void mbx_reshape(const mbx_reshape_call *call, const int8_t *input, int8_t *output);

#endif
