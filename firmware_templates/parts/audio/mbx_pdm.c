#include "mbx_pdm.h"

#include <string.h>

/* mbx_deploy/sim/microphone.py, fir_taps_q14(): low-pass at 8 kHz, the inverse of the CIC below it; the first half, the
 * second is its mirror image. The absolute values of all sum to 34,726: times 2^15 that stays below 2^31. */
static const int32_t taps_q14[MBX_PDM_FIR_TAPS / 2] = {
    -1, -2, -2, -1, 1, 4, 5, 2, -3, -8, -9, -4, 5, 13, 15, 7,
    -8, -21, -24, -11, 12, 32, 36, 17, -17, -47, -52, -24, 25, 66, 73, 33,
    -34, -92, -100, -46, 47, 125, 136, 63, -63, -170, -186, -86, 86, 232, 255, 119,
    -118, -323, -361, -173, 167, 475, 547, 276, -258, -792, -983, -567, 487, 1933, 3319, 4164,
};

/* Eight steps of the integrators without a bit: in each the one before is added to the next. The k-th before counts by the
 * binomial C(8 + k - 1, k). */
static void mbx_pdm_step_8(int32_t s[MBX_PDM_CIC_ORDER])
{
    s[4] += 8 * s[3] + 36 * s[2] + 120 * s[1] + 330 * s[0];
    s[3] += 8 * s[2] + 36 * s[1] + 120 * s[0];
    s[2] += 8 * s[1] + 36 * s[0];
    s[1] += 8 * s[0];
}

/* What eight bits, the earliest on top, leave in five integrators that were at zero, and what is left eight steps later: at
 * most C(20, 5) = 15504. */
static void mbx_pdm_init_tables(mbx_pdm *self)
{
    for (uint32_t byte = 0; byte < 256u; byte++) {
        int32_t s[MBX_PDM_CIC_ORDER] = {0};
        for (uint32_t mask = 0x80u; mask != 0u; mask >>= 1) {
            int32_t carried = (byte & mask) != 0u ? 1 : -1;
            for (uint32_t i = 0; i < MBX_PDM_CIC_ORDER; i++) {
                s[i] += carried;
                carried = s[i];
            }
        }
        for (uint32_t i = 0; i < MBX_PDM_CIC_ORDER; i++) {
            self->late_byte[byte][i] = (int16_t)s[i];
        }
        mbx_pdm_step_8(s);
        for (uint32_t i = 0; i < MBX_PDM_CIC_ORDER; i++) {
            self->early_byte[byte][i] = (int16_t)s[i];
        }
    }
}

void mbx_pdm_init(mbx_pdm *self, int32_t gain_q4)
{
    memset(self, 0, sizeof *self);
    self->dc.shift = MBX_PDM_DC_SHIFT;
    self->gain_q4 = gain_q4;
    mbx_pdm_init_tables(self);
}

/* One sample at 64 kHz, within +-2^20, from 16 bits: sixteen steps of the integrators at once, as mbx_pdm_step_8() does
 * eight. The sums wrap modulo 2^32, and the differences undo that. */
static int32_t mbx_pdm_cic(mbx_pdm *self, uint32_t word)
{
    const int16_t *early = self->early_byte[word >> 8];
    const int16_t *late = self->late_byte[word & 0xFFu];
    uint32_t *s = self->integrators;
    const uint32_t a = s[0], b = s[1], c = s[2], d = s[3];
    uint32_t value = s[4] + 16u * d + 136u * c + 816u * b + 3876u * a + (uint32_t)(early[4] + late[4]);
    s[4] = value;
    s[3] = d + 16u * c + 136u * b + 816u * a + (uint32_t)(early[3] + late[3]);
    s[2] = c + 16u * b + 136u * a + (uint32_t)(early[2] + late[2]);
    s[1] = b + 16u * a + (uint32_t)(early[1] + late[1]);
    s[0] = a + (uint32_t)(early[0] + late[0]);
    for (uint32_t i = 0; i < MBX_PDM_CIC_ORDER; i++) {
        const uint32_t difference = value - self->combs[i];
        self->combs[i] = value;
        value = difference;
    }
    return (int32_t)value;
}

/* samples: the newest 128. The taps are symmetric: those of a pair share one. Words, and four a turn, since a Cortex-M0+
 * loads halfwords in twice the instructions. */
static int16_t mbx_pdm_fir(const int32_t *samples)
{
    const int32_t *mirrored = samples + MBX_PDM_FIR_TAPS;
    int32_t sum = 1 << 13;
    for (uint32_t i = 0; i < MBX_PDM_FIR_TAPS / 2u; i += 4u) {
        mirrored -= 4;
        sum += taps_q14[i] * (samples[0] + mirrored[3]);
        sum += taps_q14[i + 1u] * (samples[1] + mirrored[2]);
        sum += taps_q14[i + 2u] * (samples[2] + mirrored[1]);
        sum += taps_q14[i + 3u] * (samples[3] + mirrored[0]);
        samples += 4;
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
