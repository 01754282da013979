/* Two operands value by value, with broadcasting. Twin: combine() in mbx_deploy/sim/elements.py. */
#ifndef MBX_COMBINE_H
#define MBX_COMBINE_H

#include <stdint.h>

/* Three loops over the output; steps: bytes of an operand that a loop goes on by, 0 where it is broadcast. */
typedef struct {
    uint32_t count[3];
    uint32_t first_step[3];
    uint32_t second_step[3];
    uint8_t is_product;   /* else a sum */
    int8_t sign[2];       /* of the operands of a sum */
    int16_t zero_point[3]; /* of the operands and the output */
    int32_t multiplier[3]; /* of the same; of a product the last one counts */
    int8_t shift[3];
    int16_t low, high;
    const int8_t *constant; /* the second operand, where it is one */
} mbx_combine_call;

/* output may be an operand that is not broadcast. */
void mbx_combine(const mbx_combine_call *call, const int8_t *input, const int8_t *other, int8_t *output);

/* The same of an input and the call's constant. */
void mbx_combine_constant(const mbx_combine_call *call, const int8_t *input, int8_t *output);

#endif
