/* The public functions of one model, used as the header forbids. Prints nothing and returns 0 where each status is right,
 * else the line of the first that is not. Compiled with sanitizers. */
#include <string.h>

#include "kws.h"

#define NEED(condition)      \
    do {                     \
        if (!(condition)) {  \
            return __LINE__; \
        }                    \
    } while (0)

static kws_t recognizer;
static kws_t untouched; /* never set up */
static int16_t audio[3 * KWS_CLIP_SAMPLES];

int main(void)
{
    mbx_result result;
    size_t consumed = 77;
    NEED(kws_init(NULL) == MBX_ERROR_ARGUMENT);
    NEED(kws_feed(NULL, audio, 1, &consumed) == MBX_ERROR_ARGUMENT);
    NEED(kws_finish_clip(NULL) == MBX_ERROR_ARGUMENT);
    NEED(kws_run(NULL, &result) == MBX_ERROR_ARGUMENT);
    NEED(kws_feed(&untouched, audio, 1, &consumed) == MBX_ERROR_ARGUMENT);
    NEED(kws_finish_clip(&untouched) == MBX_ERROR_ARGUMENT);
    NEED(kws_run(&untouched, &result) == MBX_ERROR_ARGUMENT);

    memset(&recognizer, 0x5A, sizeof recognizer); /* memory that held something else */
    NEED(kws_init(&recognizer) == MBX_OK);
    NEED(kws_run(&recognizer, NULL) == MBX_ERROR_ARGUMENT);
    NEED(kws_run(&recognizer, &result) == MBX_ERROR_STATE);
    NEED(kws_feed(&recognizer, NULL, 1, &consumed) == MBX_ERROR_ARGUMENT);
    NEED(kws_feed(&recognizer, audio, 1, NULL) == MBX_ERROR_ARGUMENT);
    NEED(kws_feed(&recognizer, NULL, 0, &consumed) == MBX_OK && consumed == 0);
    NEED(kws_finish_clip(&recognizer) == MBX_WINDOW_READY); /* a clip of no samples is one of zeros */
    NEED(kws_feed(&recognizer, audio, 1, &consumed) == MBX_ERROR_STATE && consumed == 0);
    NEED(kws_finish_clip(&recognizer) == MBX_ERROR_STATE);
    NEED(kws_run(&recognizer, &result) == MBX_OK);
    NEED(kws_run(&recognizer, &result) == MBX_ERROR_STATE);
    NEED(kws_finish_clip(&recognizer) == MBX_ERROR_STATE);
    NEED(kws_init(&recognizer) == MBX_OK);

    NEED(kws_feed(&recognizer, audio, 3 * KWS_CLIP_SAMPLES, &consumed) == MBX_WINDOW_READY);
    NEED(consumed < 3 * KWS_CLIP_SAMPLES);
    size_t more = 77;
    NEED(kws_feed(&recognizer, audio, 5, &more) == MBX_WINDOW_READY && more == 0);
    NEED(kws_run(&recognizer, &result) == MBX_OK && result.label < KWS_NUM_CLASSES);
    NEED(result.score_q15 == result.posteriors_q15[result.label] && result.score_q15 <= 32768u);
    NEED(kws_feed(&recognizer, audio, KWS_CLIP_SAMPLES, &consumed) == MBX_WINDOW_READY); /* the next one, a stride on */
    NEED(kws_run(&recognizer, &result) == MBX_OK);
    NEED(kws_finish_clip(&recognizer) == MBX_ERROR_STATE); /* a stream */
    NEED(strcmp(kws_label(KWS_NUM_CLASSES), "") == 0 && strcmp(kws_label(65535), "") == 0);
    return 0;
}
