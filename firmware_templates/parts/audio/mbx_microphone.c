#include "mbx_microphone.h"

void mbx_pcm_init(mbx_pcm *self, int32_t gain_q4)
{
    self->dc.mean = 0;
    self->dc.shift = MBX_PCM_DC_SHIFT;
    self->gain_q4 = gain_q4;
}

void mbx_pcm_condition(mbx_pcm *self, int16_t *samples, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const int32_t y = mbx_remove_dc(&self->dc, samples[i]); /* |y| <= 2^16; times 1023 is below 2^26 */
        samples[i] = mbx_saturate_s16((y * self->gain_q4 + 8) >> 4);
    }
}
