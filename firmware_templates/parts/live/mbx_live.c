#include "mbx_live.h"

static mbx_recognizer *recognizer;
static int16_t samples[MBX_LIVE_CAPACITY];
static uint32_t consumed;
static uint32_t told[MBX_LIVE_RESULTS];
static int32_t log_mels_q24[MBX_LIVE_FRAMES * MBX_MAX_MELS];
static uint32_t frames;

/* Keeps the log-mels of a frame: each is the lower half of an energy's place. */
static void keep_frame(void *context, int stage, const void *data, uint32_t bytes)
{
    (void)context;
    if (stage != MBX_STAGE_LOG_MEL) {
        return;
    }
    const mbx_mel *mels = data;
    const uint32_t bands = bytes / (uint32_t)sizeof *mels;
    int32_t *row = log_mels_q24 + (frames % MBX_LIVE_FRAMES) * bands;
    for (uint32_t i = 0; i < bands; i++) {
        row[i] = mels[i].log_q24;
    }
    frames++;
}

int mbx_live_begin(void)
{
    consumed = 0;
    frames = 0;
    recognizer = mbx_live_recognizer();
    if (recognizer == NULL) {
        return MBX_ERROR_RUNTIME;
    }
    mbx_observe(recognizer, keep_frame, NULL);
    return MBX_OK;
}

int16_t *mbx_live_samples(void)
{
    return samples;
}

uint32_t mbx_live_capacity(void)
{
    return MBX_LIVE_CAPACITY;
}

int mbx_live_feed(uint32_t first, uint32_t count)
{
    size_t taken = 0;
    consumed = 0;
    if (first > MBX_LIVE_CAPACITY || count > MBX_LIVE_CAPACITY - first) {
        return MBX_ERROR_ARGUMENT;
    }
    const mbx_status status = mbx_feed(recognizer, samples + first, count, &taken);
    consumed = (uint32_t)taken;
    return (int)status;
}

uint32_t mbx_live_consumed(void)
{
    return consumed;
}

int mbx_live_run(void)
{
    mbx_result result;
    const mbx_status status = mbx_run(recognizer, &result);
    if (status == MBX_OK) {
        told[MBX_LIVE_LABEL] = result.label;
        told[MBX_LIVE_SCORE] = result.score_q15;
        told[MBX_LIVE_WORD] = result.event.word;
        told[MBX_LIVE_WORD_SCORE] = result.event.score_q15;
        told[MBX_LIVE_SAMPLES_LOW] = (uint32_t)result.event.samples;
        told[MBX_LIVE_SAMPLES_HIGH] = (uint32_t)(result.event.samples >> 32);
    }
    return (int)status;
}

int mbx_live_finish_clip(void)
{
    return (int)mbx_finish_clip(recognizer);
}

int mbx_live_lose(uint32_t count)
{
    return (int)mbx_lose(recognizer, count);
}

int mbx_live_set_threshold(uint32_t label, uint32_t threshold_q15)
{
    if (label > UINT16_MAX || threshold_q15 > UINT16_MAX) {
        return MBX_ERROR_ARGUMENT;
    }
    return (int)mbx_set_threshold(recognizer, (uint16_t)label, (uint16_t)threshold_q15);
}

const uint32_t *mbx_live_result(void)
{
    return told;
}

const int8_t *mbx_live_logits(void)
{
    return recognizer->memory.logits;
}

const uint16_t *mbx_live_posteriors(void)
{
    return recognizer->memory.posteriors_q15;
}

const int32_t *mbx_live_log_mels(void)
{
    return log_mels_q24;
}

uint32_t mbx_live_bands(void)
{
    return recognizer->model->frontend->n_mels;
}

uint32_t mbx_live_frames(void)
{
    return frames;
}
