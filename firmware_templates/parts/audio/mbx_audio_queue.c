#include "mbx_audio_queue.h"

#include <string.h>

/* Between the samples and the count that publishes them: a compiler's barrier, since one core writes and reads. */
#define MBX_PUBLISH() __asm volatile("" ::: "memory")

void mbx_audio_queue_init(mbx_audio_queue *self)
{
    self->written = 0;
    self->read = 0;
    self->overrun_blocks = 0;
    self->overrun_samples = 0;
}

int mbx_audio_queue_push(mbx_audio_queue *self, const int16_t *samples, uint32_t count)
{
    const uint32_t written = self->written;
    if (count > MBX_AUDIO_QUEUE_SAMPLES - (written - self->read)) {
        self->overrun_blocks++;
        self->overrun_samples += count;
        return 0;
    }
    const uint32_t place = written & (MBX_AUDIO_QUEUE_SAMPLES - 1u);
    const uint32_t first = count < MBX_AUDIO_QUEUE_SAMPLES - place ? count : MBX_AUDIO_QUEUE_SAMPLES - place;
    memcpy(self->samples + place, samples, first * sizeof *samples);
    memcpy(self->samples, samples + first, (count - first) * sizeof *samples);
    MBX_PUBLISH();
    self->written = written + count;
    return 1;
}

const int16_t *mbx_audio_queue_peek(const mbx_audio_queue *self, uint32_t *count)
{
    const uint32_t waiting = mbx_audio_queue_waiting(self);
    const uint32_t place = self->read & (MBX_AUDIO_QUEUE_SAMPLES - 1u);
    *count = waiting < MBX_AUDIO_QUEUE_SAMPLES - place ? waiting : MBX_AUDIO_QUEUE_SAMPLES - place;
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
    self->missed = 0;
}

uint32_t mbx_double_buffer_take(mbx_double_buffer *self, uint32_t active)
{
    const uint32_t complete = active ^ 1u;
    self->missed += complete == self->last;
    self->last = complete;
    return complete;
}
