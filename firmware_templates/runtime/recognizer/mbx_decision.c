#include "mbx_decision.h"

#include <string.h>

void mbx_decision_init(mbx_decision *self, const mbx_decision_rule *rule, mbx_decision_class *classes,
                       uint16_t *recent_q15)
{
    self->rule = rule;
    self->classes = classes;
    self->recent_q15 = recent_q15;
    for (uint32_t i = 0; i < rule->num_classes; i++) {
        classes[i].threshold_q15 = rule->thresholds_q15[i];
        classes[i].release_q15 = rule->release_q15[i];
    }
    mbx_decision_reset(self);
}

/* Twin: silent_decision(). */
void mbx_decision_reset(mbx_decision *self)
{
    const mbx_decision_rule *rule = self->rule;
    self->rest_until = 0;
    self->next = 0;
    memset(self->recent_q15, 0, (uint32_t)rule->smoothing * rule->num_classes * sizeof *self->recent_q15);
    for (uint32_t i = 0; i < rule->num_classes; i++) {
        self->classes[i].above = 0;
        self->classes[i].released = 1;
    }
}

/* The mean of a class over the last decisions, rounded down. */
static uint16_t mean_of(const mbx_decision *self, uint32_t number)
{
    const mbx_decision_rule *rule = self->rule;
    uint32_t sum = 0;
    for (uint32_t i = number; i < (uint32_t)rule->smoothing * rule->num_classes; i += rule->num_classes) {
        sum += self->recent_q15[i];
    }
    return (uint16_t)(sum / rule->smoothing);
}

/* Twin: decide(). */
mbx_event mbx_decide(mbx_decision *self, const uint16_t *posteriors_q15, uint64_t samples)
{
    const mbx_decision_rule *rule = self->rule;
    mbx_event event = {MBX_NO_WORD, 0, samples};
    memcpy(self->recent_q15 + (uint32_t)self->next * rule->num_classes, posteriors_q15,
           rule->num_classes * sizeof *posteriors_q15);
    self->next = (uint8_t)(self->next + 1u == rule->smoothing ? 0u : self->next + 1u);
    for (uint16_t i = 0; i < rule->num_classes; i++) {
        mbx_decision_class *known = &self->classes[i];
        if (!rule->is_word[i]) {
            continue;
        }
        const uint16_t mean = mean_of(self, i);
        known->released |= mean < known->release_q15;
        if (!known->released || mean <= known->threshold_q15) {
            known->above = 0;
        } else if (known->above < UINT8_MAX) {
            known->above++;
        }
        if (samples >= self->rest_until && known->above >= rule->rows && mean > event.score_q15) {
            event.word = i;
            event.score_q15 = mean;
        }
    }
    if (event.word != MBX_NO_WORD) {
        for (uint32_t i = 0; i < rule->num_classes; i++) {
            self->classes[i].above = 0;
        }
        self->classes[event.word].released = 0;
        self->rest_until = samples + rule->rest_samples;
    }
    return event;
}
