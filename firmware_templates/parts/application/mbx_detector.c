#include "mbx_detector.h"

void mbx_detector_init(mbx_detector *self, int (*is_word)(uint16_t label))
{
    self->is_word = is_word;
    self->agreeing = 0;
    self->quiet = 0;
    self->last = 0;
    self->counted = 0;
    self->started = 0;
}

int mbx_detector_decide(mbx_detector *self, const mbx_result *result, uint32_t samples)
{
    const int late = self->started && samples >= MBX_DETECTOR_LATE_SAMPLES;
    self->started = 1;
    self->quiet -= samples < self->quiet ? samples : self->quiet;
    if (!self->is_word(result->label) || result->score_q15 < MBX_DETECTOR_MIN_SCORE_Q15) {
        self->agreeing = 0;
        return 0;
    }
    if (self->agreeing == 0u || self->last != result->label) {
        self->agreeing = 0;
        self->counted = 0;
    }
    self->agreeing++;
    self->last = result->label;
    if (self->agreeing < (late ? 1u : MBX_DETECTOR_WINDOWS) || self->quiet != 0u || self->counted) {
        return 0;
    }
    self->counted = 1;
    self->quiet = MBX_DETECTOR_QUIET_SAMPLES;
    return 1;
}
