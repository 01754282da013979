/* An item that a host has the recogniser run: a clip, continuous audio, or features, which come in pieces.
 *
 * A piece counts only at the place where it belongs: after all bytes before it, and after the windows that they gave. So a
 * piece that is lost, late or repeated changes nothing but the time it takes. When a window has been run, the host reads the
 * result before it goes on. At the end its own count and CRC of the bytes must agree with the device's.
 */
#ifndef MBX_REMOTE_H
#define MBX_REMOTE_H

#include "mbx_recognizer.h"

enum { /* kinds of items: those of mbx_session.h */
    MBX_REMOTE_CLIP = 0,
    MBX_REMOTE_STREAM = 1,
    MBX_REMOTE_FEATURES = 2
};

enum { /* states */
    MBX_REMOTE_IDLE = 0,
    MBX_REMOTE_TAKING = 1,
    MBX_REMOTE_RESULT = 2, /* a window was run; its result can be read, and more values may come */
    MBX_REMOTE_DONE = 3,   /* finished; the last result, if there is one, can be read */
    MBX_REMOTE_FAILED = 4
};

enum { /* why it failed */
    MBX_REMOTE_OK = 0,
    MBX_REMOTE_BAD_KIND = 1,
    MBX_REMOTE_BAD_SIZE = 2,   /* more bytes than the item may have, or fewer */
    MBX_REMOTE_BAD_CRC = 3,    /* the bytes that came are not those that the host sent */
    MBX_REMOTE_BAD_STATUS = 4  /* the recogniser refused to work */
};

#define MBX_REMOTE_MAX_CHECKSUMS 40u

typedef struct {
    mbx_recognizer *recognizer;
    uint32_t token;     /* of the item; the host's choice */
    uint32_t ended;     /* token of the item before: a late MBX_BEGIN of it is none */
    uint32_t received;  /* bytes */
    uint32_t crc;       /* of them */
    uint32_t checksums[MBX_REMOTE_MAX_CHECKSUMS]; /* CRC-32 of the network's input and of each layer's output */
    uint32_t checksum_count;
    uint16_t windows;   /* that were run */
    uint16_t block;     /* samples that are handed over at a time */
    uint16_t label, score_q15;
    mbx_event event;
    uint8_t kind, state, failure;
    uint8_t has_ended;
} mbx_remote;

void mbx_remote_init(mbx_remote *self, mbx_recognizer *recognizer);

/* Each does what it says where it belongs, else nothing; self->state tells. A clip of a model that begins in silence may
 * have further decisions in the silence behind it: the host finishes until it is done. */
void mbx_remote_begin(mbx_remote *self, uint32_t token, uint8_t kind, uint16_t block);
void mbx_remote_take(mbx_remote *self, uint32_t token, uint16_t windows, uint32_t offset, const uint8_t *bytes,
                     uint32_t size);
void mbx_remote_finish(mbx_remote *self, uint32_t token, uint16_t windows, uint32_t total, uint32_t crc);

/* Ends the item, and sets the recogniser back to the beginning of a stream. Returns 1 where there was one. */
int mbx_remote_end(mbx_remote *self);

/* Whether the result of the last window can be read. */
int mbx_remote_has_result(const mbx_remote *self, uint32_t token, uint16_t windows);

/* Byte i of the features that the last window was made of, [frames][coefficients], and how many there are: none of
 * MBX_REMOTE_FEATURES, which the host knows, nor of a stream, whose step has moved them on. */
uint8_t mbx_remote_feature(const mbx_remote *self, uint32_t i);
uint32_t mbx_remote_kept_feature_bytes(const mbx_remote *self);

/* Bytes of the network's input: of a window, or of a step. */
uint32_t mbx_remote_feature_bytes(const mbx_remote *self);

#endif
