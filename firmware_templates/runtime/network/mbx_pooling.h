/* Pooling. Twin: mbx_deploy/sim/pooling.py. */
#ifndef MBX_POOLING_H
#define MBX_POOLING_H

#include <stdint.h>

typedef struct {
    uint16_t in_height, in_width;
    uint16_t out_height, out_width;
    uint16_t channels;
    uint16_t window_height, window_width;
    uint16_t pad_top, pad_left;
    uint8_t stride_height, stride_width;
    int8_t low;
    int8_t high;
} mbx_pool_call;

/* input [in_height][in_width][channels], output [out_height][out_width][channels]; padding is not counted. */
void mbx_pool_average(const mbx_pool_call *call, const int8_t *input, int8_t *output);
void mbx_pool_max(const mbx_pool_call *call, const int8_t *input, int8_t *output);

#endif
