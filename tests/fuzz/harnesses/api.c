/* Any calls of a recogniser's interface in any order: no memory error, and no state that can't be.
 *
 * A call is a byte; what it takes follows. Samples lie in memory of just their size, so that a byte too many is seen.
 */
#include <stdlib.h>
#include <string.h>

#include "kws.h"

#define NEED(condition)       \
    do {                      \
        if (!(condition)) {   \
            __builtin_trap(); \
        }                     \
    } while (0)

typedef struct {
    const uint8_t *data;
    size_t left;
} input;

static uint32_t take(input *self, size_t bytes)
{
    uint32_t value = 0;
    for (size_t i = 0; i < bytes && self->left != 0u; i++, self->left--) {
        value |= (uint32_t)*self->data++ << 8u * i;
    }
    return value;
}

static void feed(kws_t *recognizer, input *self)
{
    const size_t count = take(self, 2) % 4096u, given = 2u * count < self->left ? 2u * count : self->left;
    int16_t *samples = calloc(count + 1u, sizeof *samples);
    NEED(samples != NULL);
    int16_t *end = samples + 1u; /* the block's end is that of the memory */
    memcpy(end, self->data, given);
    self->data += given;
    self->left -= given;
    size_t consumed = count + 1u;
    const mbx_status status = kws_feed(recognizer, end, count, &consumed);
    NEED(status == MBX_OK || status == MBX_WINDOW_READY || status == MBX_ERROR_STATE || status == MBX_ERROR_ARGUMENT);
    NEED(status == MBX_ERROR_ARGUMENT || consumed <= count);
    NEED(status != MBX_OK || consumed == count);
    free(samples);
}

static void run(kws_t *recognizer)
{
    mbx_result result;
    if (kws_run(recognizer, &result) != MBX_OK) {
        return;
    }
    uint32_t sum = 0;
    NEED(result.label < KWS_NUM_CLASSES && result.score_q15 == result.posteriors_q15[result.label]);
    for (uint32_t i = 0; i < KWS_NUM_CLASSES; i++) {
        NEED(result.posteriors_q15[i] <= result.score_q15 && result.logits[i] <= result.logits[result.label]);
        sum += result.posteriors_q15[i];
    }
    NEED(sum <= 32768u + KWS_NUM_CLASSES && sum + KWS_NUM_CLASSES >= 32768u);
    NEED(result.event.word == MBX_NO_WORD || (kws_is_word(result.event.word) && result.event.score_q15 <= 32768u));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static kws_t recognizer;
    input left = {data, size};
    memset(&recognizer, 0x5A, sizeof recognizer);
    NEED(kws_init(&recognizer) == MBX_OK);
    while (left.left != 0u) {
        switch (take(&left, 1) % 10u) {
        case 0:
            NEED(kws_init(&recognizer) == MBX_OK);
            break;
        case 1:
            NEED(kws_reset(&recognizer) == MBX_OK);
            break;
        case 2:
            (void)kws_finish_clip(&recognizer);
            break;
        case 3:
        case 4:
            run(&recognizer);
            break;
        case 5:
            (void)kws_set_threshold(&recognizer, (uint16_t)take(&left, 2), (uint16_t)take(&left, 2));
            break;
        case 6:
            (void)kws_lose(&recognizer, take(&left, 4));
            break;
        case 7: {
            const uint16_t label = (uint16_t)take(&left, 2);
            NEED((kws_label(label)[0] == '\0') == (label >= KWS_NUM_CLASSES));
            NEED(!kws_is_word(label) || label < KWS_NUM_CLASSES);
            break;
        }
        default:
            feed(&recognizer, &left);
        }
    }
    return 0;
}
