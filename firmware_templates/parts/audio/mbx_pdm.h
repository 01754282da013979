/* One bit at 1.024 MHz -> 16 bits at 16 kHz: a CIC filter by 16, then an FIR by 4, for chips without a decimator.
 *
 *     bits -> CIC, order 5, 64 kHz, +-2^20 -> mean removed -> gain, to 16 bits -> FIR, 128 taps -> 16 kHz
 *
 * Twin: mbx_deploy/sim/microphone.py, which also has the design of the FIR's taps.
 */
#ifndef MBX_PDM_H
#define MBX_PDM_H

#include <stdint.h>

#include "mbx_microphone.h"

#define MBX_PDM_CLOCK_HZ 1024000u
#define MBX_PDM_CIC_ORDER 5
#define MBX_PDM_CIC_RATIO 16 /* bits of a word */
#define MBX_PDM_FIR_RATIO 4
#define MBX_PDM_FIR_TAPS 128
#define MBX_PDM_DC_SHIFT 10 /* 9.9 Hz at 64 kHz */
#define MBX_PDM_WORDS_PER_SAMPLE MBX_PDM_FIR_RATIO

typedef struct {
    int16_t early_byte[256][MBX_PDM_CIC_ORDER]; /* what the first eight bits of a word add to the integrators */
    int16_t late_byte[256][MBX_PDM_CIC_ORDER];  /* and the last eight */
    uint32_t integrators[MBX_PDM_CIC_ORDER];
    uint32_t combs[MBX_PDM_CIC_ORDER];
    mbx_dc_blocker dc;
    int32_t gain_q4;
    uint32_t place;                       /* in line, of the sample that comes next */
    int32_t line[2 * MBX_PDM_FIR_TAPS];   /* of 16 bits; each sample twice, so that the newest 128 always lie in a row */
} mbx_pdm;

/* gain_q4: 16 to MBX_MICROPHONE_MAX_GAIN_Q4. At 0 dB a full-scale density of bits gives full-scale samples. */
void mbx_pdm_init(mbx_pdm *self, int32_t gain_q4);

/* words: 4 * count, of 16 bits each, the earliest bit on top. samples: count. */
void mbx_pdm_decimate(mbx_pdm *self, const uint16_t *words, int16_t *samples, uint32_t count);

#endif
