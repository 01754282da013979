/* Cascades: calls of kernels on stripes of positions, one stripe after another, so that what lies between the layers
 * is never in memory as a whole. mbx_deploy/cascade.py divides the calls, and memory_plan.py places them.
 */
#ifndef MBX_STEPS_H
#define MBX_STEPS_H

#include "mbx_runtime.h"

typedef struct {
    const int8_t *input;
    const int8_t *other; /* the second input of an addition */
    int8_t *output;
    void *scratch;
} mbx_operands;

/* Offsets count words of four bytes from the arena's start. */
typedef struct {
    void (*run)(const void *call, const mbx_operands *operands);
    const void *call;
    uint16_t input;
    uint16_t other;
    uint16_t output;
    uint16_t scratch;
    uint16_t layer;
    uint16_t observed_bytes; /* of the output, for an observer; 0: none */
} mbx_step;

/* The positions of a layer that are still needed move to the place of those that are not. */
typedef struct {
    uint32_t bytes;
} mbx_shift_call;

void mbx_shift(const void *call, const mbx_operands *operands);

/* An observer sees each layer in as many parts as it has stripes, in order. */
void mbx_run_steps(const mbx_step *steps, uint32_t count, int8_t *arena, mbx_observer observe, void *context);

#endif
