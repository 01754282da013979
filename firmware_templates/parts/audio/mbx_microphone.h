/* What every microphone's samples go through: the removal of its constant part, and gain.
 *
 * Twin: mbx_deploy/sim/microphone.py. Gains are Q4: 16 is 0 dB, 160 is 20 dB.
 */
#ifndef MBX_MICROPHONE_H
#define MBX_MICROPHONE_H

#include <stdint.h>

#define MBX_MICROPHONE_MAX_GAIN_Q4 1023 /* 36 dB */

/* Subtracts a running mean: y = x - m, m += y / 2^shift. A high-pass at sample rate / (2 pi 2^shift).
 * |x| * 2^shift must stay below 2^31. */
typedef struct {
    int32_t mean; /* times 2^shift */
    int32_t shift;
} mbx_dc_blocker;

static inline int32_t mbx_remove_dc(mbx_dc_blocker *self, int32_t x)
{
    const int32_t y = x - (self->mean >> self->shift);
    self->mean += y;
    return y;
}

static inline int16_t mbx_saturate_s16(int32_t x)
{
    return (int16_t)(x > INT16_MAX ? INT16_MAX : x < INT16_MIN ? INT16_MIN : x);
}

#define MBX_PCM_DC_SHIFT 8 /* 9.9 Hz at 16 kHz */

/* For a microphone, or a peripheral, that gives 16-bit samples. */
typedef struct {
    mbx_dc_blocker dc;
    int32_t gain_q4;
} mbx_pcm;

void mbx_pcm_init(mbx_pcm *self, int32_t gain_q4);

/* samples: count of them, in place; rounded half up, saturated. */
void mbx_pcm_condition(mbx_pcm *self, int16_t *samples, uint32_t count);

#endif
