/* From the results of overlapping windows to words said: a word counts once, when windows in a row agree on it. */
#ifndef MBX_DETECTOR_H
#define MBX_DETECTOR_H

#include "mbx_recognizer.h"

#define MBX_DETECTOR_MIN_SCORE_Q15 19661u   /* 0.6 */
#define MBX_DETECTOR_WINDOWS 2u             /* in a row that must agree, or 1 that comes late, as on a slow core */
#define MBX_DETECTOR_LATE_SAMPLES 8000u
#define MBX_DETECTOR_QUIET_SAMPLES 16000u   /* after a word: its end, alone in a window, may sound like another one */

typedef struct {
    int (*is_word)(uint16_t label); /* 0 for silence and unknown words */
    uint32_t agreeing;      /* windows in a row that said last */
    uint32_t quiet;         /* samples until the next word may count */
    uint16_t last;
    uint8_t counted; /* the word that these windows agree on */
    uint8_t started; /* there was a decision before */
} mbx_detector;

void mbx_detector_init(mbx_detector *self, int (*is_word)(uint16_t label));

/* samples: that came since the call before. Returns 1 where the result's label counts as said now. */
int mbx_detector_decide(mbx_detector *self, const mbx_result *result, uint32_t samples);

#endif
