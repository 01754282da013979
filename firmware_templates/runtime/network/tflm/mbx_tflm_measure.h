/* Measures what TFLite Micro needs on a core: the smallest arena that the network can be set up in, what is in use of
 * the roomy one, and the deepest stack; 0 where it is not seen. No part of the firmware. */
#ifndef MBX_TFLM_MEASURE_H
#define MBX_TFLM_MEASURE_H

#include "mbx_tflm.h"

typedef struct {
    uint32_t arena_bytes;
    uint32_t used_bytes;
    uint32_t engine_bytes;
    uint32_t stack_bytes;
} mbx_tflm_needs;

typedef int (*mbx_tflm_setup)(void *engine, uint8_t *arena, uint32_t arena_bytes);

mbx_tflm_needs mbx_tflm_measure(mbx_tflm_setup setup, void *engine, uint8_t *arena, uint32_t arena_bytes);

#endif
