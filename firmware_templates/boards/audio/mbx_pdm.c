#include "mbx_pdm.h"

#include <string.h>

/* mbx_deploy/sim/microphone.py, fir_taps_q14(): low-pass at 8 kHz, the inverse of the CIC below it. The absolute values
 * sum to 34,722 or so: times 2^15 that stays below 2^31. */
static const int16_t taps_q14[MBX_PDM_FIR_TAPS] = {
    -1, -2, -2, -1, 1, 4, 5, 2, -3, -8, -9, -4, 5, 13, 15, 7,
    -8, -21, -24, -11, 12, 32, 36, 17, -17, -47, -52, -24, 25, 66, 73, 33,
    -34, -92, -100, -46, 47, 125, 136, 63, -63, -170, -186, -86, 86, 232, 255, 119,
    -118, -323, -361, -173, 167, 475, 547, 276, -258, -792, -983, -567, 487, 1933, 3319, 4164,
    4164, 3319, 1933, 487, -567, -983, -792, -258, 276, 547, 475, 167, -173, -361, -323, -118,
    119, 255, 232, 86, -86, -186, -170, -63, 63, 136, 125, 47, -46, -100, -92, -34,
    33, 73, 66, 25, -24, -52, -47, -17, 17, 36, 32, 12, -11, -24, -21, -8,
    7, 15, 13, 5, -4, -9, -8, -3, 2, 5, 4, 1, -1, -2, -2, -1,
};

void mbx_pdm_init(mbx_pdm *self, int32_t gain_q4)
{
    memset(self, 0, sizeof *self);
    self->dc.shift = MBX_PDM_DC_SHIFT;
    self->gain_q4 = gain_q4;
}

/* One sample at 64 kHz, within +-2^20, from 16 bits. The sums wrap modulo 2^32, and the differences undo that. */
static int32_t mbx_pdm_cic(mbx_pdm *self, uint32_t word)
{
    uint32_t a = self->integrators[0], b = self->integrators[1], c = self->integrators[2];
    uint32_t d = self->integrators[3], e = self->integrators[4];
    for (uint32_t mask = 0x8000u; mask != 0u; mask >>= 1) {
        a += (word & mask) != 0u ? 1u : UINT32_MAX;
        b += a;
        c += b;
        d += c;
        e += d;
    }
    self->integrators[0] = a;
    self->integrators[1] = b;
    self->integrators[2] = c;
    self->integrators[3] = d;
    self->integrators[4] = e;
    for (uint32_t i = 0; i < MBX_PDM_CIC_ORDER; i++) {
        const uint32_t difference = e - self->combs[i];
        self->combs[i] = e;
        e = difference;
    }
    return (int32_t)e;
}

static int16_t mbx_pdm_fir(const int16_t *newest_128)
{
    int32_t sum = 1 << 13;
    for (uint32_t i = 0; i < MBX_PDM_FIR_TAPS; i++) { /* the taps are symmetric: either direction will do */
        sum += taps_q14[i] * newest_128[i];
    }
    return mbx_saturate_s16(sum >> 14);
}

void mbx_pdm_decimate(mbx_pdm *self, const uint16_t *words, int16_t *samples, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t phase = 0; phase < MBX_PDM_FIR_RATIO; phase++) {
            /* |y| <= 2^21; times 1023 it is below 2^31. 2^20 times 0 dB (16) becomes 2^15. */
            const int32_t y = mbx_remove_dc(&self->dc, mbx_pdm_cic(self, *words++));
            const int16_t x = mbx_saturate_s16((y * self->gain_q4 + 256) >> 9);
            self->line[self->place] = x;
            self->line[self->place + MBX_PDM_FIR_TAPS] = x;
            self->place = (self->place + 1u) & (MBX_PDM_FIR_TAPS - 1u);
        }
        samples[i] = mbx_pdm_fir(self->line + self->place);
    }
}
