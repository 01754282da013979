#include "mbx_audio_queue.h"

#include <string.h>

/* Between the samples and the count that publishes them: a compiler's barrier, since one core writes and reads. */
#define MBX_PUBLISH() __asm volatile("" ::: "memory")

#define MBX_AUDIO_RESUME_SAMPLES (MBX_AUDIO_QUEUE_SAMPLES / 2u)

void mbx_audio_queue_init(mbx_audio_queue *self)
{
    self->written = 0;
    self->read = 0;
    self->overrun_blocks = 0;
    self->overrun_samples = 0;
    self->missed_blocks = 0;
    self->gaps_written = 0;
    self->gaps_read = 0;
    self->pending = 0;
    self->dropping = 0;
}

/* Publishes what was lost before the block that is about to be written, where there is room to say so. A count is added
 * to a gap only before it is published: where all places wait to be read, it stays pending. */
static void mbx_audio_queue_tell_gap(mbx_audio_queue *self)
{
    const uint32_t number = self->gaps_written;
    if (self->pending == 0u || number - self->gaps_read == MBX_AUDIO_GAPS) {
        return;
    }
    mbx_audio_gap *gap = &self->gaps[number & (MBX_AUDIO_GAPS - 1u)];
    gap->place = self->written;
    gap->count = self->pending;
    self->pending = 0;
    MBX_PUBLISH();
    self->gaps_written = number + 1u;
}

int mbx_audio_queue_push(mbx_audio_queue *self, const int16_t *samples, uint32_t count)
{
    const uint32_t written = self->written;
    const uint32_t room = MBX_AUDIO_QUEUE_SAMPLES - (written - self->read);
    if (count > room || (self->dropping && room < MBX_AUDIO_RESUME_SAMPLES)) {
        self->dropping = 1;
        self->overrun_blocks++;
        self->overrun_samples += count;
        self->pending += count;
        return 0;
    }
    self->dropping = 0;
    mbx_audio_queue_tell_gap(self);
    const uint32_t place = written & (MBX_AUDIO_QUEUE_SAMPLES - 1u);
    const uint32_t first = count < MBX_AUDIO_QUEUE_SAMPLES - place ? count : MBX_AUDIO_QUEUE_SAMPLES - place;
    memcpy(self->samples + place, samples, first * sizeof *samples);
    memcpy(self->samples, samples + first, (count - first) * sizeof *samples);
    MBX_PUBLISH();
    self->written = written + count;
    return 1;
}

void mbx_audio_queue_miss(mbx_audio_queue *self, uint32_t count)
{
    self->missed_blocks++;
    self->pending += count;
}

uint32_t mbx_audio_queue_lost(mbx_audio_queue *self)
{
    uint32_t lost = 0;
    uint32_t number = self->gaps_read;
    while (number != self->gaps_written) {
        MBX_PUBLISH();
        const mbx_audio_gap *gap = &self->gaps[number & (MBX_AUDIO_GAPS - 1u)];
        if (gap->place != self->read) {
            break;
        }
        lost += gap->count;
        MBX_PUBLISH(); /* the count is out before its place is given back */
        self->gaps_read = ++number;
    }
    return lost;
}

const int16_t *mbx_audio_queue_peek(const mbx_audio_queue *self, uint32_t *count)
{
    const uint32_t read = self->read;
    const uint32_t place = read & (MBX_AUDIO_QUEUE_SAMPLES - 1u);
    uint32_t most = mbx_audio_queue_waiting(self);
    MBX_PUBLISH(); /* a gap is published before the samples behind it */
    if (self->gaps_read != self->gaps_written) {
        const uint32_t whole = self->gaps[self->gaps_read & (MBX_AUDIO_GAPS - 1u)].place - read;
        most = whole < most ? whole : most;
    }
    *count = most < MBX_AUDIO_QUEUE_SAMPLES - place ? most : MBX_AUDIO_QUEUE_SAMPLES - place;
    MBX_PUBLISH();
    return self->samples + place;
}

void mbx_audio_queue_release(mbx_audio_queue *self, uint32_t count)
{
    MBX_PUBLISH();
    self->read += count;
}

uint32_t mbx_audio_queue_waiting(const mbx_audio_queue *self)
{
    return self->written - self->read;
}

void mbx_double_buffer_init(mbx_double_buffer *self)
{
    self->last = 1;
}

uint32_t mbx_double_buffer_take(mbx_double_buffer *self, uint32_t active, mbx_audio_queue *queue, uint32_t block_samples)
{
    const uint32_t complete = active ^ 1u;
    if (complete == self->last) {
        mbx_audio_queue_miss(queue, block_samples);
    }
    self->last = complete;
    return complete;
}
