/* One recogniser that a program beside it hears with: a page through WebAssembly, or Python through a shared library.
 *
 *     begin -> write samples to mbx_live_samples() -> feed until all are taken -> where it returns MBX_WINDOW_READY: run
 *
 * Plain integers go in and out; results stay where they are until the next run. Twin: firmware_templates/browser/
 * recognizer.js and mbx_deploy/engines/live.py, which call these functions by their names.
 */
#ifndef MBX_LIVE_H
#define MBX_LIVE_H

#include "mbx_recognizer.h"

#if defined(__wasm__)
#define MBX_LIVE_EXPORT(name) __attribute__((export_name(#name)))
#else
#define MBX_LIVE_EXPORT(name)
#endif

#define MBX_LIVE_CAPACITY 1024u /* samples at a time */
#define MBX_LIVE_FRAMES 64u     /* of the spectrogram that are kept, a power of two */

/* Where mbx_live_result() says what; each is 32 bits wide. */
enum {
    MBX_LIVE_LABEL,        /* of the largest logit */
    MBX_LIVE_SCORE,        /* its posterior, Q15 */
    MBX_LIVE_WORD,         /* that was said, or MBX_NO_WORD */
    MBX_LIVE_WORD_SCORE,   /* its mean, Q15 */
    MBX_LIVE_SAMPLES_LOW,  /* samples since the start, lost ones included */
    MBX_LIVE_SAMPLES_HIGH,
    MBX_LIVE_RESULTS
};

/* Given by the generated main.c: the instance, set up anew; NULL where that fails. And the digest of its build. */
mbx_recognizer *mbx_live_recognizer(void);
MBX_LIVE_EXPORT(mbx_live_digest) uint32_t mbx_live_digest(void);

/* Sets the recogniser up: the beginning of a clip or stream, thresholds as the model has them. Returns a status. */
MBX_LIVE_EXPORT(mbx_live_begin) int mbx_live_begin(void);

/* Where up to MBX_LIVE_CAPACITY samples are written to, and how many that is. */
MBX_LIVE_EXPORT(mbx_live_samples) int16_t *mbx_live_samples(void);
MBX_LIVE_EXPORT(mbx_live_capacity) uint32_t mbx_live_capacity(void);

/* Takes count samples from first on; returns MBX_OK, MBX_WINDOW_READY, or an error. mbx_live_consumed(): how many. */
MBX_LIVE_EXPORT(mbx_live_feed) int mbx_live_feed(uint32_t first, uint32_t count);
MBX_LIVE_EXPORT(mbx_live_consumed) uint32_t mbx_live_consumed(void);

/* As the functions of mbx_recognizer.h. */
MBX_LIVE_EXPORT(mbx_live_run) int mbx_live_run(void);
MBX_LIVE_EXPORT(mbx_live_finish_clip) int mbx_live_finish_clip(void);
MBX_LIVE_EXPORT(mbx_live_lose) int mbx_live_lose(uint32_t count);
MBX_LIVE_EXPORT(mbx_live_set_threshold) int mbx_live_set_threshold(uint32_t label, uint32_t threshold_q15);

/* Of the last run: [MBX_LIVE_RESULTS], [classes], [classes]. */
MBX_LIVE_EXPORT(mbx_live_result) const uint32_t *mbx_live_result(void);
MBX_LIVE_EXPORT(mbx_live_logits) const int8_t *mbx_live_logits(void);
MBX_LIVE_EXPORT(mbx_live_posteriors) const uint16_t *mbx_live_posteriors(void);

/* The device's own spectrogram: log-mels in Q24 of the last frames, [MBX_LIVE_FRAMES][bands]; frame n of those since
 * begin lies in row n % MBX_LIVE_FRAMES. */
MBX_LIVE_EXPORT(mbx_live_log_mels) const int32_t *mbx_live_log_mels(void);
MBX_LIVE_EXPORT(mbx_live_bands) uint32_t mbx_live_bands(void);
MBX_LIVE_EXPORT(mbx_live_frames) uint32_t mbx_live_frames(void);

#endif
