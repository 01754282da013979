#include "mbx_pdm.h"

#include <string.h>

/* mbx_deploy/sim/microphone.py, fir_taps_q14(): low-pass at 8 kHz, the inverse of the CIC below it; the first half, the
 * second is its mirror image. The absolute values of all sum to 34,256: times 2^15 that stays below 2^31. */
static const int32_t taps_q14[MBX_PDM_FIR_TAPS / 2] = {
    -1, -2, -2, -1, 1, 4, 5, 2, -3, -8, -9, -4, 5, 13, 15, 7,
    -8, -21, -23, -11, 12, 31, 35, 16, -17, -46, -50, -23, 24, 65, 71, 32,
    -34, -89, -97, -44, 46, 122, 133, 61, -62, -166, -181, -83, 84, 226, 248, 115,
    -116, -316, -351, -167, 166, 465, 532, 265, -258, -778, -957, -541, 503, 1930, 3296, 4129,
};

/* Of the newest 128 bits, the oldest first, what each counts in the CIC's output: four running sums over 32 bits in turn
 * over a one and zeros. Twin: cic_taps(). Then for each byte, and each of its 16 places, the sum over its bits. */
static void mbx_pdm_init_table(mbx_pdm *self)
{
    int32_t *taps = self->line; /* 128, in what is not in use yet */
    const uint32_t first = 8u * MBX_PDM_CIC_BYTES - (MBX_PDM_CIC_ORDER * (MBX_PDM_CIC_RATIO - 1u) + 1u);
    taps[first] = 1;
    for (uint32_t order = 0; order < MBX_PDM_CIC_ORDER; order++) {
        int32_t sum = 0;
        for (uint32_t i = first; i < 8u * MBX_PDM_CIC_BYTES; i++) {
            sum += taps[i];
            self->line[MBX_PDM_FIR_TAPS + i] = sum;
        }
        for (uint32_t i = first; i < 8u * MBX_PDM_CIC_BYTES; i++) {
            const int32_t left = i >= first + MBX_PDM_CIC_RATIO ? self->line[MBX_PDM_FIR_TAPS + i - MBX_PDM_CIC_RATIO] : 0;
            taps[i] = self->line[MBX_PDM_FIR_TAPS + i] - left;
        }
    }
    for (uint32_t byte = 0; byte < 256u; byte++) {
        for (uint32_t place = 0; place < MBX_PDM_CIC_BYTES; place++) {
            int32_t sum = 0;
            for (uint32_t bit = 0; bit < 8u; bit++) { /* the earliest on top */
                sum += (byte & (0x80u >> bit)) != 0u ? taps[8u * place + bit] : -taps[8u * place + bit];
            }
            self->table[byte][place] = sum;
        }
    }
    memset(self->line, 0, sizeof self->line);
}

void mbx_pdm_init(mbx_pdm *self, int32_t gain_q4)
{
    memset(self, 0, sizeof *self);
    self->dc.shift = MBX_PDM_DC_SHIFT;
    self->gain_q4 = gain_q4;
    mbx_pdm_init_table(self);
    memset(self->words, 0x55, sizeof self->words); /* a zero and a one in turn: silence */
}

/* One sample at 64 kHz, within +-2^20, from the two next words. A CIC's integrators and differences would cost some five
 * additions a bit; the table of its impulse response costs two a byte. */
static int32_t mbx_pdm_cic(mbx_pdm *self, const uint16_t *words)
{
    const uint32_t place = self->word_place;
    self->words[place] = self->words[place + MBX_PDM_CIC_WORDS] = words[0];
    self->words[place + 1u] = self->words[place + MBX_PDM_CIC_WORDS + 1u] = words[1];
    self->word_place = (place + 2u) & (MBX_PDM_CIC_WORDS - 1u);
    const uint16_t *newest = self->words + place + 2u;
    int32_t sum = 0;
    for (uint32_t i = 0; i < MBX_PDM_CIC_WORDS; i++) {
        const uint32_t word = newest[i];
        sum += self->table[word >> 8][2u * i] + self->table[word & 0xFFu][2u * i + 1u];
    }
    return sum;
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
            const int32_t y = mbx_remove_dc(&self->dc, mbx_pdm_cic(self, words));
            const int16_t x = mbx_saturate_s16((y * self->gain_q4 + 256) >> 9);
            words += 2;
            self->line[self->place] = x;
            self->line[self->place + MBX_PDM_FIR_TAPS] = x;
            self->place = (self->place + 1u) & (MBX_PDM_FIR_TAPS - 1u);
        }
        samples[i] = mbx_pdm_fir(self->line + self->place);
    }
}
