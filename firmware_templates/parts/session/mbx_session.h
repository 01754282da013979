/* Items in, results out, over any pair of byte streams: what runs a firmware on test data.
 *
 * Request, little-endian: MBX_SESSION_MAGIC, trace level, number of items; then per item its kind, the samples of a
 * block, the number of values, and the values (int16 samples, or int8 features padded to 4 bytes).
 * Response: records of kind, number of bytes, data. Twin: mbx_deploy/engines/session.py.
 */
#ifndef MBX_SESSION_H
#define MBX_SESSION_H

#include "mbx_runtime.h"

#define MBX_SESSION_MAGIC UINT32_C(0x3151424D) /* "MBQ1" */
#define MBX_SESSION_BLOCK_SAMPLES 512u         /* at most */

enum { /* kinds of items; a network alone takes its input only */
    MBX_ITEM_CLIP = 0,     /* samples of a clip that stands alone */
    MBX_ITEM_STREAM = 1,   /* samples of continuous audio: a result for each window */
    MBX_ITEM_FEATURES = 2  /* the network's input; of a network that streams any number of steps, a result for each */
};

enum { /* kinds of records; below them the observer's stages */
    /* Of a recogniser: label u16, score u16; of the event its word u16, score u16, samples u64; logits int8 [classes],
     * posteriors u16 [classes]. Of a network alone: its output, int8. */
    MBX_RECORD_RESULT = 256,
    MBX_RECORD_END = 257 /* the status u32 that ended the item */
};

enum { /* trace levels */
    MBX_TRACE_RESULTS = 0,
    MBX_TRACE_LAYERS = 1, /* and features, and the output of every layer */
    MBX_TRACE_STAGES = 2  /* and every stage of the front end */
};

typedef struct {
    uint32_t trace_level;
    uint32_t windows; /* that the item's audio gave */
    int broken;       /* a stream broke, or the request makes no sense */
} mbx_session;

/* The two streams, given by the board. Each moves exactly bytes, or returns 0. */
int mbx_session_read(void *data, uint32_t bytes);
int mbx_session_write(const void *data, uint32_t bytes);

/* Whether a request is there to be served. */
int mbx_session_waits(void);

/* Serves one request with a model: an mbx_recognizer (mbx_session_recognizer.c), or an mbx_session_network. Returns 0,
 * or 1 where a stream broke or the request makes no sense. */
int mbx_session_serve(void *model);

/* Given by what is served: reads the values of an item, and writes its results. Returns the status that ends it. */
mbx_status mbx_session_item(void *model, mbx_session *session, uint32_t kind, uint32_t block, uint32_t count);

/* For mbx_session_item(): an observer that writes what the session traces, context being the session; a record; and the
 * padding behind count int8 values. The last two return 0 where a stream broke. */
void mbx_session_observe(void *context, int stage, const void *data, uint32_t bytes);
int mbx_session_record(uint32_t kind, const void *data, uint32_t bytes);
int mbx_session_read_padding(uint32_t count);

#endif
