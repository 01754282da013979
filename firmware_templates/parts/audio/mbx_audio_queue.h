/* Hand-over of audio from an interrupt to the main loop: the two blocks that a DMA fills in turn, and the queue behind.
 *
 * One writer (the interrupt) and one reader (the main loop); neither ever waits for the other. The queue is longer than
 * an inference, so that the microphone goes on while the network runs. Where it is full all the same, blocks are dropped
 * until half of it is free: one gap that can be told, instead of many small ones that chop every word.
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

#define MBX_AUDIO_GAPS 4u /* a power of two; what is lost while all are in use is told later */

/* Samples that were lost before the one that was the place-th to be written. */
typedef struct {
    uint32_t place;
    uint32_t count;
} mbx_audio_gap;

typedef struct {
    int16_t samples[MBX_AUDIO_QUEUE_SAMPLES];
    volatile uint32_t written;         /* samples since the start, modulo 2^32; only the writer changes it */
    volatile uint32_t read;            /* the same; only the reader changes it */
    volatile uint32_t overrun_blocks;  /* blocks that found no room and were dropped */
    volatile uint32_t overrun_samples; /* samples in them */
    volatile uint32_t missed_blocks;   /* blocks that the DMA overwrote before the interrupt came */
    mbx_audio_gap gaps[MBX_AUDIO_GAPS];
    volatile uint32_t gaps_written;    /* as written and read, of gaps */
    volatile uint32_t gaps_read;
    uint32_t pending;                  /* samples lost since the last block that found room */
    uint32_t dropping;                 /* 1 from the first block that found no room, until half of the queue is free */
} mbx_audio_queue;

void mbx_audio_queue_init(mbx_audio_queue *self);

/* The writer's: adds a whole block, or drops it whole and counts it. Returns 1, or 0 where it was dropped. */
int mbx_audio_queue_push(mbx_audio_queue *self, const int16_t *samples, uint32_t count);

/* The writer's: a block of count samples was overwritten before it could be pushed; it came before the next one. */
void mbx_audio_queue_miss(mbx_audio_queue *self, uint32_t count);

/* The reader's: how many samples were lost right before the oldest one, told once. */
uint32_t mbx_audio_queue_lost(mbx_audio_queue *self);

/* The reader's: where the oldest samples lie and, in *count, how many follow there in a row without a gap; 0 where there
 * are none. */
const int16_t *mbx_audio_queue_peek(const mbx_audio_queue *self, uint32_t *count);

/* The reader's: gives back the oldest count samples, at most what peek told. */
void mbx_audio_queue_release(mbx_audio_queue *self, uint32_t count);

/* Samples that wait. */
uint32_t mbx_audio_queue_waiting(const mbx_audio_queue *self);

/* The two blocks of a DMA. */
typedef struct {
    uint32_t last; /* the block that was handed over last, 0 or 1 */
} mbx_double_buffer;

/* The DMA is going to fill block 0 first. */
void mbx_double_buffer_init(mbx_double_buffer *self);

/* To be called at each "block complete". active: the block, 0 or 1, that the DMA fills now. Returns the other one, which
 * is complete. Where that is the block that came last, the one between them was overwritten: the queue is told that its
 * block_samples are lost. */
uint32_t mbx_double_buffer_take(mbx_double_buffer *self, uint32_t active, mbx_audio_queue *queue, uint32_t block_samples);

#endif
