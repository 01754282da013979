/* TFLite Micro behind the recogniser: the network's interpreter, in an instance's own memory. C on this side.
 *
 * The generated <prefix>_tflm.cc defines <prefix>_tflm_init() with the ops that the model has. */
#ifndef MBX_TFLM_H
#define MBX_TFLM_H

#include <stdint.h>

#include "mbx_frontend.h"

#if defined(__GNUC__)
#define MBX_TFLM_ALIGNED __attribute__((aligned(16))) /* what TFLite Micro aligns tensors to */
#else
#define MBX_TFLM_ALIGNED
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What an op of the file writes, and which layer of the report it is; one an op, in the file's order. */
typedef struct {
    int32_t layer;
    int32_t tensor;
    uint32_t bytes;
} mbx_tflm_layer;

/* The network's input and output: in the arena, where the interpreter planned them. */
int8_t *mbx_tflm_input(void *engine);
int8_t *mbx_tflm_output(void *engine);

/* Runs the network on its input. */
void mbx_tflm_invoke(void *engine, mbx_observer observe, void *context);

/* Bytes of the arena that are in use. */
uint32_t mbx_tflm_used_bytes(const void *engine);

#ifdef __cplusplus
}
#endif

#endif
