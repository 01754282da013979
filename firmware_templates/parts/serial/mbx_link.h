/* What a device and its host tell each other, in frames of mbx_frame.h. Twin: mbx_deploy/serial/messages.py, whose table
 * describes the bytes of each message.
 *
 * Until a host asks with MBX_PING, the port carries lines of text for a terminal. From then on it carries frames, until the
 * host leaves (MBX_BYE) or is silent for ten seconds of audio. Every request may come twice or late: what it asks for is
 * done once, and the answer tells the state that the device is in. Nothing here waits: where the port has no room, the
 * message is left out and counted.
 */
#ifndef MBX_LINK_H
#define MBX_LINK_H

#include "mbx_application.h"
#include "mbx_audio_queue.h"
#include "mbx_frame.h"
#include "mbx_remote.h"

#define MBX_LINK_LEVEL_SAMPLES 1600u
#define MBX_LINK_SILENT_SAMPLES 160000u
#define MBX_LINK_AUDIO_SAMPLES 120u /* of a message */

enum { /* host to device */
    MBX_PING = 0x01,
    MBX_BYE = 0x02,
    MBX_RECORD = 0x03,
    MBX_BEGIN = 0x04,
    MBX_VALUES = 0x05,
    MBX_FINISH = 0x06,
    MBX_READ = 0x07,
    MBX_END = 0x08,
    MBX_LIVE = 0x09
};

enum { /* device to host */
    MBX_HELLO = 0x81,
    MBX_LEVEL = 0x82,
    MBX_SCORES = 0x83,
    MBX_DETECTION = 0x84,
    MBX_AUDIO = 0x85,
    MBX_STATE = 0x86,
    MBX_ANSWER = 0x87,
    MBX_LIVE_STATE = 0x88
};

enum { /* flags of MBX_HELLO */
    MBX_HELLO_TAKES_AUDIO = 1, /* the host is its microphone */
    MBX_HELLO_RECORDING = 2,
    MBX_HELLO_BUSY = 4 /* runs a host's item, and does not listen */
};

typedef struct {
    const mbx_application *application;
    mbx_audio_queue *queue;
    mbx_remote remote;
    mbx_frame_reader reader;
    mbx_frame_writer writer;
    uint32_t sent;     /* bytes of the writer's frame that the port took */
    uint32_t left_out; /* messages that found no room */
    uint64_t square_sum;
    uint32_t level_count; /* samples in square_sum */
    uint32_t heard;       /* samples since the start, lost ones included, modulo 2^32 */
    uint32_t silence;     /* samples since the host's last message */
    uint32_t passed_over; /* windows */
    uint16_t peak;
    uint16_t sequence;
    uint8_t framed; /* a host is there */
    uint8_t recording;
} mbx_link;

void mbx_link_init(mbx_link *self, const mbx_application *application, mbx_audio_queue *queue);

/* Sends what waits, and serves at most one message of the host. Returns 0 where there was nothing to do. */
int mbx_link_poll(mbx_link *self);

/* Whether a host's item is being run: then the recogniser is not for listening. */
int mbx_link_is_busy(const mbx_link *self);

/* How many of count samples that were heard may be taken now: fewer, where they are recorded and the port is slow. */
uint32_t mbx_link_limit(mbx_link *self, uint32_t count);

/* Samples that were heard; of the recogniser or not. */
void mbx_link_hear(mbx_link *self, const int16_t *samples, uint32_t count);

/* A window's result, and that its label counts as said. window: number of it. */
void mbx_link_tell_scores(mbx_link *self, const mbx_result *result, uint32_t window);
void mbx_link_tell_detection(mbx_link *self, const mbx_result *result, uint32_t window);

#endif
