/* One bit at 2.048 MHz -> 16 bits at 16 kHz: a CIC filter by 32, then an FIR by 4, for chips without a decimator. The clock
 * is one that every PDM microphone takes (1.2 to 3.25 MHz are common).
 *
 *     bits -> CIC, order 4, 64 kHz, +-2^20 -> mean removed -> gain, to 16 bits -> FIR, 128 taps -> 16 kHz
 *
 * Twin: mbx_deploy/sim/microphone.py, which also has the design of the FIR's taps.
 */
#ifndef MBX_PDM_H
#define MBX_PDM_H

#include <stdint.h>

#include "mbx_microphone.h"

#define MBX_PDM_CLOCK_HZ 2048000u
#define MBX_PDM_CIC_ORDER 4
#define MBX_PDM_CIC_RATIO 32
#define MBX_PDM_WORD_BITS 16
#define MBX_PDM_CIC_WORDS 8u /* that an output of the CIC sees: 125 bits */
#define MBX_PDM_CIC_BYTES (2u * MBX_PDM_CIC_WORDS)
#define MBX_PDM_FIR_RATIO 4
#define MBX_PDM_FIR_TAPS 128
#define MBX_PDM_DC_SHIFT 10 /* 9.9 Hz at 64 kHz */
#define MBX_PDM_WORDS_PER_SAMPLE (MBX_PDM_FIR_RATIO * MBX_PDM_CIC_RATIO / MBX_PDM_WORD_BITS)

typedef struct {
    int32_t table[256][MBX_PDM_CIC_BYTES]; /* what a byte adds to an output, by its place: 0 is the oldest */
    uint16_t words[2u * MBX_PDM_CIC_WORDS]; /* each twice, so that the newest eight always lie in a row */
    uint32_t word_place;
    mbx_dc_blocker dc;
    int32_t gain_q4;
    uint32_t place;                       /* in line, of the sample that comes next */
    int32_t line[2 * MBX_PDM_FIR_TAPS];   /* of 16 bits; each sample twice, as above */
} mbx_pdm;

/* gain_q4: 16 to MBX_MICROPHONE_MAX_GAIN_Q4. At 0 dB a full-scale density of bits gives full-scale samples. */
void mbx_pdm_init(mbx_pdm *self, int32_t gain_q4);

/* words: 8 * count, of 16 bits each, the earliest bit on top. samples: count. */
void mbx_pdm_decimate(mbx_pdm *self, const uint16_t *words, int16_t *samples, uint32_t count);

#endif
