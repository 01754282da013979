/* SOFTMAX as TFLite's reference kernel computes it. Twin: mbx_deploy/sim/elements.py. */
#ifndef MBX_SOFTMAX_H
#define MBX_SOFTMAX_H

#include <stdint.h>

typedef struct {
    uint32_t rows;
    uint16_t classes;              /* at most 511: the sum fits */
    uint16_t exponentials;         /* how many there are; those further down count as 0 */
    const int32_t *exponential_q31; /* [exponentials], of a logit so many steps below the largest */
} mbx_softmax_call;

/* input, output [rows][classes]; output may be input. */
void mbx_softmax(const mbx_softmax_call *call, const int8_t *input, int8_t *output);

#endif
