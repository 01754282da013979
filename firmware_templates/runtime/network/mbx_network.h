/* A network without a front end: int8 in, int8 out.
 *
 * The generated header <prefix>.h wraps this for one network, with an instance of static size.
 */
#ifndef MBX_NETWORK_H
#define MBX_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "mbx_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The network and its sizes; const, in flash. */
typedef struct {
    uint32_t input_bytes;
    uint32_t output_bytes;
    uint32_t input_offset; /* in the arena */
    uint32_t output_offset;
    void (*invoke)(int8_t *arena, mbx_observer observe, void *context);
    void (*reset)(int8_t *arena); /* of a network that streams, else NULL */
} mbx_network;

/* Where the input lies in the arena. */
static inline int8_t *mbx_network_input(const mbx_network *network, uint64_t *arena)
{
    return (int8_t *)arena + network->input_offset;
}

/* Runs the network on input [input_bytes], which may be mbx_network_input(), into output [output_bytes]. */
MBX_MUST_CHECK mbx_status mbx_network_run(const mbx_network *network, uint64_t *arena, const int8_t *input,
                                          int8_t *output);

/* Sets a network that streams back to its beginning; one that does not keeps nothing. */
MBX_MUST_CHECK mbx_status mbx_network_reset(const mbx_network *network, uint64_t *arena);

/* For verification: runs it on the input in the arena; observe sees each layer. Returns where the output lies. */
const int8_t *mbx_network_observe(const mbx_network *network, uint64_t *arena, mbx_observer observe, void *context);

#ifdef __cplusplus
}
#endif

#endif
