/* Network inputs in, outputs back, over any pair of byte streams: what runs a network without a front end on test data.
 *
 * Request, little-endian: MBX_SESSION_MAGIC, trace level, number of items; then per item the number of its bytes, and
 * the network's input, padded to 4 bytes. Response: records of kind, number of bytes, data.
 * Twin: mbx_deploy/network_session.py.
 */
#ifndef MBX_SESSION_H
#define MBX_SESSION_H

#include "mbx_network.h"

#define MBX_SESSION_MAGIC UINT32_C(0x314E424D) /* "MBN1" */

enum { /* kinds of records; below them the observer's stages */
    MBX_RECORD_RESULT = 256, /* the network's output */
    MBX_RECORD_END = 257     /* the status u32 that ended the item */
};

enum { /* trace levels */
    MBX_TRACE_RESULTS = 0,
    MBX_TRACE_LAYERS = 1 /* and the output of every layer */
};

/* The two streams, given by the board. Each moves exactly bytes, or returns 0. */
int mbx_session_read(void *data, uint32_t bytes);
int mbx_session_write(const void *data, uint32_t bytes);

/* Whether a request is there to be served. */
int mbx_session_waits(void);

/* Serves one request. Returns 0, or 1 where a stream broke or the request makes no sense. */
int mbx_session_serve(const mbx_network *network, uint64_t *arena);

#endif
