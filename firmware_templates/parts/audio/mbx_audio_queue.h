/* Hand-over of audio from an interrupt to the main loop: the two blocks that a DMA fills in turn, and the queue behind.
 *
 * One writer (the interrupt) and one reader (the main loop); neither ever waits for the other. The queue is longer than
 * an inference, so that the microphone goes on while the network runs.
 */
#ifndef MBX_AUDIO_QUEUE_H
#define MBX_AUDIO_QUEUE_H

#include <stdint.h>

#ifndef MBX_AUDIO_QUEUE_SAMPLES
#define MBX_AUDIO_QUEUE_SAMPLES 16384u /* a power of two; 1.02 s at 16 kHz */
#endif

#if (MBX_AUDIO_QUEUE_SAMPLES & (MBX_AUDIO_QUEUE_SAMPLES - 1u)) != 0u
#error "MBX_AUDIO_QUEUE_SAMPLES: need a power of two"
#endif

typedef struct {
    int16_t samples[MBX_AUDIO_QUEUE_SAMPLES];
    volatile uint32_t written;         /* samples since the start, modulo 2^32; only the writer changes it */
    volatile uint32_t read;            /* the same; only the reader changes it */
    volatile uint32_t overrun_blocks;  /* blocks that found no room and were dropped */
    volatile uint32_t overrun_samples; /* samples in them */
} mbx_audio_queue;

void mbx_audio_queue_init(mbx_audio_queue *self);

/* The writer's: adds a whole block, or drops it whole and counts it. Returns 1, or 0 where it was dropped. */
int mbx_audio_queue_push(mbx_audio_queue *self, const int16_t *samples, uint32_t count);

/* The reader's: where the oldest samples lie and, in *count, how many follow there in a row; 0 where there are none. */
const int16_t *mbx_audio_queue_peek(const mbx_audio_queue *self, uint32_t *count);

/* The reader's: gives back the oldest count samples, at most what peek told. */
void mbx_audio_queue_release(mbx_audio_queue *self, uint32_t count);

/* Samples that wait. */
uint32_t mbx_audio_queue_waiting(const mbx_audio_queue *self);

/* The two blocks of a DMA. */
typedef struct {
    uint32_t last;   /* the block that was handed over last, 0 or 1 */
    uint32_t missed; /* blocks that were overwritten before they were handed over */
} mbx_double_buffer;

/* The DMA is going to fill block 0 first. */
void mbx_double_buffer_init(mbx_double_buffer *self);

/* To be called at each "block complete". active: the block, 0 or 1, that the DMA fills now. Returns the other one, which
 * is complete. Where that is the block that came last, the one between them was overwritten: it is counted. */
uint32_t mbx_double_buffer_take(mbx_double_buffer *self, uint32_t active);

#endif
