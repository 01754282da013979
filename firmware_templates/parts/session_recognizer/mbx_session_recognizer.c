#include "mbx_recognizer.h"
#include "mbx_session.h"

static int write_result(const mbx_recognizer *recognizer, const mbx_result *result)
{
    const uint32_t classes = recognizer->model->num_classes;
    const uint16_t head[8] = {result->label,
                              result->score_q15,
                              result->event.word,
                              result->event.score_q15,
                              (uint16_t)result->event.samples,
                              (uint16_t)(result->event.samples >> 16),
                              (uint16_t)(result->event.samples >> 32),
                              (uint16_t)(result->event.samples >> 48)};
    const uint32_t header[2] = {MBX_RECORD_RESULT, (uint32_t)sizeof head + 3u * classes};
    return mbx_session_write(header, sizeof header) && mbx_session_write(head, sizeof head) &&
           mbx_session_write(result->logits, classes) && mbx_session_write(result->posteriors_q15, 2u * classes);
}

static mbx_status run(mbx_recognizer *recognizer, mbx_session *session)
{
    mbx_result result;
    const mbx_status status = mbx_run(recognizer, &result);
    session->windows++;
    if (status == MBX_OK && !write_result(recognizer, &result)) {
        session->broken = 1;
    }
    return status;
}

/* Feeds a block, running the windows that become ready in it, up to most of the item. */
static mbx_status feed(mbx_recognizer *recognizer, mbx_session *session, const int16_t *samples, uint32_t count,
                       uint32_t most)
{
    uint32_t done = 0;
    mbx_status status = MBX_OK;
    while (done < count && (status == MBX_OK) && !session->broken && session->windows < most) {
        size_t consumed = 0;
        status = mbx_feed(recognizer, samples + done, count - done, &consumed);
        done += (uint32_t)consumed;
        if (status == MBX_WINDOW_READY) {
            status = run(recognizer, session);
        }
    }
    return status;
}

static mbx_status serve_audio(mbx_recognizer *recognizer, mbx_session *session, uint32_t kind, uint32_t block,
                              uint32_t count)
{
    int16_t samples[MBX_SESSION_BLOCK_SAMPLES];
    mbx_status status = MBX_OK;
    const int is_clip = kind == MBX_ITEM_CLIP;
    const int from_silence = recognizer->model->silent_frame != NULL; /* a clip is then of any length */
    const int one_window = is_clip && !from_silence;
    session->windows = 0;
    const uint32_t fed =
        one_window && count > recognizer->model->clip_samples ? recognizer->model->clip_samples : count;
    for (uint32_t done = 0; done < count && !session->broken;) {
        const uint32_t rest = count - done;
        const uint32_t length = rest < block ? rest : block;
        if (!mbx_session_read(samples, length * 2u)) {
            session->broken = 1;
        } else if (status == MBX_OK && done < fed) {
            status = feed(recognizer, session, samples, length < fed - done ? length : fed - done,
                          one_window ? 1u : UINT32_MAX);
        }
        done += length;
    }
    while (is_clip && from_silence && status == MBX_OK && !session->broken) {
        status = mbx_finish_clip(recognizer);
        if (status == MBX_OK) {
            return MBX_OK;
        }
        status = status == MBX_WINDOW_READY ? run(recognizer, session) : status;
    }
    if (is_clip && status == MBX_OK && !session->broken) {
        /* A front end without centring, or that drops frames, may have its window ready, and run, before the clip ends. */
        status = mbx_finish_clip(recognizer);
        status = status == MBX_WINDOW_READY ? run(recognizer, session) : MBX_OK;
    }
    return status;
}

/* A window of features, or any number of a stream's steps. They land where run_features copies them to: it tolerates
 * that. */
static mbx_status serve_features(mbx_recognizer *recognizer, mbx_session *session, uint32_t count)
{
    const mbx_model *model = recognizer->model;
    const uint32_t bytes = mbx_input_frames(model) * model->coefficients;
    int8_t *input = (int8_t *)recognizer->memory.arena + model->input_offset;
    mbx_status status = count == 0u || count % bytes != 0u ? MBX_ERROR_ARGUMENT : MBX_OK;
    status = model->stream == NULL && count != bytes ? MBX_ERROR_ARGUMENT : status;
    for (uint32_t done = 0; done < count && status == MBX_OK && !session->broken; done += bytes) {
        mbx_result result;
        if (!mbx_session_read(input, bytes)) {
            session->broken = 1;
            return MBX_ERROR_ARGUMENT;
        }
        status = mbx_run_features(recognizer, input, &result);
        if (status == MBX_OK && !write_result(recognizer, &result)) {
            session->broken = 1;
        }
    }
    session->broken |= status != MBX_OK || !mbx_session_read_padding(count);
    return status;
}

mbx_status mbx_session_item(void *model, mbx_session *session, uint32_t kind, uint32_t block, uint32_t count)
{
    mbx_recognizer *recognizer = model;
    const mbx_memory memory = recognizer->memory;
    const mbx_status status = mbx_init(recognizer, recognizer->model, &memory);
    if (status != MBX_OK) {
        session->broken = 1;
        return status;
    }
    mbx_observe(recognizer, session->trace_level != MBX_TRACE_RESULTS ? mbx_session_observe : NULL, session);
    return kind == MBX_ITEM_FEATURES ? serve_features(recognizer, session, count)
                                     : serve_audio(recognizer, session, kind, block, count);
}
