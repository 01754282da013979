/* What every part of the runtime shares: its version, its status, and what verification sees. */
#ifndef MBX_RUNTIME_H
#define MBX_RUNTIME_H

#include <stdint.h>

#define MBX_RUNTIME_VERSION 2

#if defined(__GNUC__)
#define MBX_MUST_CHECK __attribute__((warn_unused_result))
#define MBX_ALIGNED __attribute__((aligned(8))) /* bytes that a kernel loads as words */
#else
#define MBX_MUST_CHECK
#define MBX_ALIGNED
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    MBX_OK = 0,
    MBX_WINDOW_READY,   /* a window of features is complete: call run */
    MBX_ERROR_ARGUMENT, /* a null pointer */
    MBX_ERROR_STATE,    /* run without a window, feed after the end of a clip */
    MBX_ERROR_RUNTIME   /* TFLite Micro refuses the model: its arena is too small for this version of it */
} mbx_status;

/* Sees each stage's result, a layer that runs in stripes in as many parts; for verification only, NULL in an
 * application. */
typedef void (*mbx_observer)(void *context, int stage, const void *data, uint32_t bytes);

enum { MBX_STAGE_LAYERS = 16 }; /* layers of the network follow from here on, in the order of the calls */

/* What the generated call list tells the observer behind a layer. */
static inline void mbx_observe_layer(mbx_observer observe, void *context, int layer, const int8_t *data, uint32_t bytes)
{
    if (observe) {
        observe(context, MBX_STAGE_LAYERS + layer, data, bytes);
    }
}

#ifdef __cplusplus
}
#endif

#endif
