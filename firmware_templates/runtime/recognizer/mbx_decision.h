/* From the scores of one decision after another to events: a word that was said, once, with its time and score.
 *
 * The scores are averaged over the last decisions. A word whose mean is above its threshold for some decisions in a row
 * is an event; it counts again only after its mean has been below its release level, and no word counts while the rest
 * after an event lasts. Twin: mbx_deploy/sim/decision.py.
 */
#ifndef MBX_DECISION_H
#define MBX_DECISION_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MBX_NO_WORD UINT16_MAX

/* As the model's metadata have it; const, in flash. */
typedef struct {
    uint16_t num_classes;
    uint8_t smoothing;              /* decisions that the mean is of, 1 or more */
    uint8_t rows;                   /* decisions in a row, 1 or more */
    uint32_t rest_samples;          /* after an event */
    const uint16_t *thresholds_q15; /* [num_classes]; above 32768: never */
    const uint16_t *release_q15;    /* [num_classes] */
    const uint8_t *is_word;         /* [num_classes] 0 for silence and unknown words */
} mbx_decision_rule;

/* Of one class, in the instance. */
typedef struct {
    uint16_t threshold_q15;
    uint16_t release_q15;
    uint8_t above;    /* decisions in a row, up to 255 */
    uint8_t released; /* it may count again */
} mbx_decision_class;

typedef struct {
    const mbx_decision_rule *rule;
    mbx_decision_class *classes; /* [num_classes] */
    uint16_t *recent_q15;        /* [smoothing][num_classes], the oldest one at next */
    uint64_t rest_until;         /* in samples since the start */
    uint8_t next;
} mbx_decision;

/* What a decision says: word is MBX_NO_WORD where nothing was said. */
typedef struct {
    uint16_t word;
    uint16_t score_q15; /* the mean */
    uint64_t samples;   /* when, since the start */
} mbx_event;

/* Sets a decision up, with the thresholds of its rule. */
void mbx_decision_init(mbx_decision *self, const mbx_decision_rule *rule, mbx_decision_class *classes,
                       uint16_t *recent_q15);

/* Forgets what was heard; the thresholds stay. */
void mbx_decision_reset(mbx_decision *self);

/* samples: that arrived since the start, lost ones included. */
mbx_event mbx_decide(mbx_decision *self, const uint16_t *posteriors_q15, uint64_t samples);

#ifdef __cplusplus
}
#endif

#endif
