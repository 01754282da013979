/* Framing, the ring of features, and the call of the network. Twin: mbx_deploy/sim/model.py and clip_frames(),
 * stream_frames() of mbx_deploy/sim/frontend.py. */
#include "mbx_recognizer.h"

#include <string.h>

#include "mbx_fixed_point.h"
#include "mbx_kernels.h"

/* history begins before the frame that comes next: the reflection at a clip's end reaches back by one sample, and its
 * preemphasis by another. */
#define MBX_HISTORY_MARGIN ((uint32_t)MBX_SAMPLES_BEFORE_FRAME)

/* Continuous audio begins with silence: the history holds as much of it as lets the first frame that has a sample be
 * the first one that is computed, and what was before are silent frames. */
static void mbx_begin_in_silence(mbx_recognizer *self)
{
    const mbx_model *model = self->model;
    const mbx_frontend *frontend = model->frontend;
    const uint32_t frames = (frontend->window_length - 1u - frontend->lead) / frontend->hop_length;

    self->history_count = frontend->lead + frames * frontend->hop_length;
    memset(self->memory.history, 0, (MBX_HISTORY_MARGIN + self->history_count) * sizeof(int16_t));
    self->extent.first = -MBX_SAMPLES_BEFORE_FRAME - 1;
    self->started = 1;
    if (model->stream != NULL) {
        const mbx_streaming *stream = model->stream;
        int8_t *arena = (int8_t *)self->memory.arena;
        stream->reset(arena);
        self->memory.ring = arena + model->input_offset;
        self->memory.coefficients = (int32_t *)(void *)&self->memory.arena[stream->coefficients_offset / 8u];
        self->ring_frames = stream->step_frames;
    } else {
        for (uint32_t i = 0; i < model->audio_frames; i++) {
            memcpy(self->memory.ring + i * model->coefficients, model->silent_frame, model->coefficients);
        }
    }
    self->tail_remaining = (uint32_t)model->tail_frames * frontend->hop_length;
    self->frames_until_window = model->stride_frames;
}

/* All but the decision, which stays. */
static void mbx_set_up(mbx_recognizer *self, const mbx_model *model, const mbx_memory *memory)
{
    const mbx_memory kept = *memory; /* memory may point into self */
    const mbx_decision decision = self->decision;
    memset(self, 0, sizeof *self);
    self->decision = decision;
    self->model = model;
    self->memory = kept;
    self->history_count = model->frontend->lead;
    self->extent.first = model->frontend->lead;
    self->extent.end = INT32_MAX;
    self->clip_remaining = model->clip_samples;
    self->ring_frames = model->audio_frames;
    self->frames_until_window = model->audio_frames;
    self->started = model->frontend->lead == 0u;
    if (model->silent_frame != NULL) {
        mbx_begin_in_silence(self);
    }
}

mbx_status mbx_init(mbx_recognizer *self, const mbx_model *model, const mbx_memory *memory)
{
    if (self == NULL || model == NULL || memory == NULL) {
        return MBX_ERROR_ARGUMENT;
    }
    const mbx_memory kept = *memory;
    memset(self, 0, sizeof *self);
    mbx_set_up(self, model, &kept);
    mbx_decision_init(&self->decision, model->decision, kept.decision_classes, kept.recent_q15);
    return MBX_OK;
}

mbx_status mbx_recognizer_reset(mbx_recognizer *self)
{
    if (self == NULL || self->model == NULL) {
        return MBX_ERROR_ARGUMENT;
    }
    const mbx_memory memory = self->memory;
    const mbx_observer observe = self->observe;
    void *context = self->context;
    mbx_set_up(self, self->model, &memory);
    mbx_decision_reset(&self->decision);
    mbx_observe(self, observe, context);
    return MBX_OK;
}

/* Where the front end works: in the arena, between runs. */
static mbx_frontend_memory mbx_frontend_place(const mbx_recognizer *self)
{
    const mbx_streaming *stream = self->model->stream;
    uint64_t *arena = self->memory.arena;
    mbx_frontend_memory place = {(mbx_bin *)(void *)arena,
                                 (mbx_mel *)(void *)&arena[self->model->frontend->n_fft / 2u + 1u]};
    if (stream != NULL) {
        place.bins = (mbx_bin *)(void *)&arena[stream->bins_offset / 8u];
        place.mels = (mbx_mel *)(void *)&arena[stream->mels_offset / 8u];
    }
    return place;
}

/* Computes the frame at the beginning of the history into the ring, and drops hop_length samples. */
static void mbx_take_frame(mbx_recognizer *self)
{
    const mbx_model *model = self->model;
    const mbx_frontend *frontend = model->frontend;
    int16_t *frame = self->memory.history + MBX_HISTORY_MARGIN;

    mbx_frame_coefficients(frontend, frame, self->extent, self->memory.coefficients, mbx_frontend_place(self),
                           self->observe, self->context);
    mbx_quantize_features(self->memory.coefficients, self->memory.ring + self->ring_head * model->coefficients,
                          model->coefficients, model->feature_multiplier, model->feature_shift,
                          model->feature_zero_point);
    self->ring_head = self->ring_head + 1u == self->ring_frames ? 0u : self->ring_head + 1u;
    self->history_count -= frontend->hop_length;
    self->extent.first -= self->extent.first >= -MBX_SAMPLES_BEFORE_FRAME ? frontend->hop_length : 0;
    self->extent.end -= self->extent.end != INT32_MAX ? frontend->hop_length : 0;
    memmove(self->memory.history, self->memory.history + frontend->hop_length,
            (self->history_count + MBX_HISTORY_MARGIN) * sizeof(int16_t));
    self->frames_until_window--;
    if (self->frames_until_window == 0u) {
        self->frames_until_window = model->stride_frames;
        self->window_ready = 1;
    }
}

/* Writes in front of a stream's first samples their mirror image, the first one not repeated, or zeros. */
static void mbx_extend_beginning(mbx_recognizer *self)
{
    const uint32_t lead = self->model->frontend->lead;
    int16_t *first = self->memory.history + MBX_HISTORY_MARGIN + lead;
    for (uint32_t i = 1; i <= lead; i++) {
        first[-(ptrdiff_t)i] = self->model->frontend->zero_edges ? 0 : first[i];
    }
    self->started = 1;
}

/* Samples that the history needs before something can be computed from it. */
static uint32_t mbx_history_needed(const mbx_recognizer *self)
{
    const mbx_frontend *frontend = self->model->frontend;
    return self->started ? frontend->window_length : frontend->window_length + 1u;
}

/* count is not 0. */
static inline void mbx_copy_samples(int16_t *to, const int16_t *from, uint32_t count)
{
#if MBX_HAS_ONLY_THUMB /* where a memcpy() goes byte by byte */
    uint32_t bytes = 2u * count;
    uint32_t sample;
    __asm volatile(".syntax unified\n1: subs %0, %0, #2\n ldrh %1, [%3, %0]\n strh %1, [%2, %0]\n bne 1b"
                   : "+&l"(bytes), "=&l"(sample)
                   : "l"(to), "l"(from)
                   : "cc", "memory");
#else
    memcpy(to, from, count * sizeof(int16_t));
#endif
}

/* Appends count samples, fewer than the history lacks; where none are missing then, takes the frame. */
static void mbx_append(mbx_recognizer *self, const int16_t *samples, uint32_t count)
{
    mbx_copy_samples(self->memory.history + MBX_HISTORY_MARGIN + self->history_count, samples, count);
    self->history_count += count;
    if (self->history_count < mbx_history_needed(self)) {
        return;
    }
    if (!self->started) {
        mbx_extend_beginning(self);
    }
    mbx_take_frame(self);
}

mbx_status mbx_feed(mbx_recognizer *self, const int16_t *samples, size_t count, size_t *consumed)
{
    if (self == NULL || self->model == NULL || consumed == NULL || (samples == NULL && count != 0u)) {
        return MBX_ERROR_ARGUMENT;
    }
    *consumed = 0;
    if (self->finished) {
        return MBX_ERROR_STATE;
    }
    while (*consumed < count && !self->window_ready) {
        const uint32_t missing = mbx_history_needed(self) - self->history_count;
        const size_t rest = count - *consumed;
        const uint32_t taken = rest < missing ? (uint32_t)rest : missing;
        mbx_append(self, samples + *consumed, taken);
        *consumed += taken;
        self->samples += taken;
        self->past_clip |= taken > self->clip_remaining;
        self->clip_remaining -= taken < self->clip_remaining ? taken : self->clip_remaining;
    }
    return self->window_ready ? MBX_WINDOW_READY : MBX_OK;
}

/* Feeds up to *remaining zeros, until a window is ready. */
static mbx_status mbx_feed_silence(mbx_recognizer *self, uint32_t *remaining)
{
    static const int16_t silence[16] = {0};
    mbx_status status = MBX_OK;
    while (*remaining != 0u && status == MBX_OK) {
        size_t consumed = 0;
        status = mbx_feed(self, silence, *remaining < 16u ? *remaining : 16u, &consumed);
        *remaining -= (uint32_t)consumed;
    }
    return status;
}

mbx_status mbx_finish_clip(mbx_recognizer *self)
{
    static const int16_t zero = 0;
    if (self == NULL || self->model == NULL) {
        return MBX_ERROR_ARGUMENT;
    }
    if (self->model->silent_frame != NULL) {
        if (self->window_ready) {
            return MBX_WINDOW_READY;
        }
        const mbx_status status = mbx_feed_silence(self, &self->tail_remaining);
        self->finished = status == MBX_OK;
        return status;
    }
    if (self->past_clip || self->finished) {
        return MBX_ERROR_STATE;
    }
    while (self->clip_remaining != 0u && !self->window_ready) {
        size_t consumed = 0;
        if (mbx_feed(self, &zero, 1, &consumed) == MBX_ERROR_STATE) {
            return MBX_ERROR_STATE;
        }
    }
    self->extent.end = (int32_t)self->history_count;
    /* Sample N - 2 - i follows as sample N + i; it lies 2 i + 1 before the newest one. */
    for (uint32_t back = 1; !self->window_ready; back += 2u) {
        if (back >= 2u * self->model->frontend->lead || back > self->history_count) {
            return MBX_ERROR_STATE; /* the clip's window was run before its end */
        }
        const int16_t mirrored = self->memory.history[MBX_HISTORY_MARGIN + self->history_count - 1u - back];
        const int16_t behind = self->model->frontend->zero_edges ? 0 : mirrored;
        mbx_append(self, &behind, 1);
    }
    self->finished = 1;
    return MBX_WINDOW_READY;
}

/* The window in the network's input: padded frames hold zeros, which the zero point stands for. */
static void mbx_fill_input(const mbx_recognizer *self, int8_t *input)
{
    const mbx_model *model = self->model;
    const uint32_t frame_bytes = model->coefficients;
    const uint32_t head_bytes = self->ring_head * frame_bytes;
    const uint32_t ring_bytes = model->audio_frames * frame_bytes;
    const uint32_t before_bytes = model->pad_frames_before * frame_bytes;

    memset(input, model->feature_zero_point, before_bytes);
    input += before_bytes;
    memcpy(input, self->memory.ring + head_bytes, ring_bytes - head_bytes);
    memcpy(input + (ring_bytes - head_bytes), self->memory.ring, head_bytes);
    memset(input + ring_bytes, model->feature_zero_point, model->pad_frames_after * frame_bytes);
}

/* Frames of the network's input: of a window, or of a step. */
uint32_t mbx_input_frames(const mbx_model *model)
{
    if (model->stream != NULL) {
        return model->stream->step_frames;
    }
    return (uint32_t)model->pad_frames_before + model->audio_frames + model->pad_frames_after;
}

/* Runs the network on the input that lies in the arena. */
static void mbx_invoke(mbx_recognizer *self, mbx_result *result)
{
    const mbx_model *model = self->model;
    int8_t *arena = (int8_t *)self->memory.arena;
    const uint32_t frames = mbx_input_frames(model);

    if (self->observe) {
        self->observe(self->context, MBX_STAGE_FEATURES, arena + model->input_offset, frames * model->coefficients);
    }
    model->invoke(arena, self->observe, self->context);
    memcpy(self->memory.logits, arena + model->output_offset, model->num_classes);
    mbx_posteriors(self->memory.logits, model->exponentials_q15, self->memory.posteriors_q15, model->num_classes);
    result->logits = self->memory.logits;
    result->posteriors_q15 = self->memory.posteriors_q15;
    result->label = 0;
    for (uint16_t i = 1; i < model->num_classes; i++) {
        if (result->logits[i] > result->logits[result->label]) {
            result->label = i;
        }
    }
    result->score_q15 = result->posteriors_q15[result->label];
    result->event = mbx_decide(&self->decision, result->posteriors_q15, self->samples);
}

mbx_status mbx_run(mbx_recognizer *self, mbx_result *result)
{
    if (self == NULL || self->model == NULL || result == NULL) {
        return MBX_ERROR_ARGUMENT;
    }
    if (!self->window_ready) {
        return MBX_ERROR_STATE;
    }
    self->window_ready = 0;
    self->past_clip = 1;
    if (self->model->stream == NULL) {
        mbx_fill_input(self, (int8_t *)self->memory.arena + self->model->input_offset);
    }
    mbx_invoke(self, result);
    return MBX_OK;
}

mbx_status mbx_skip_window(mbx_recognizer *self)
{
    if (self == NULL || self->model == NULL) {
        return MBX_ERROR_ARGUMENT;
    }
    if (!self->window_ready) {
        return MBX_ERROR_STATE;
    }
    self->window_ready = 0;
    self->past_clip = 1;
    return MBX_OK;
}

mbx_status mbx_run_features(mbx_recognizer *self, const int8_t *features, mbx_result *result)
{
    if (self == NULL || self->model == NULL || features == NULL || result == NULL) {
        return MBX_ERROR_ARGUMENT;
    }
    const mbx_model *model = self->model;
    const uint32_t frames = mbx_input_frames(model);
    int8_t *input = (int8_t *)self->memory.arena + model->input_offset;
    if (features != input) { /* they may have been written in place */
        memcpy(input, features, frames * model->coefficients);
    }
    self->samples += model->stream != NULL ? frames * model->frontend->hop_length : 0u;
    mbx_invoke(self, result);
    return MBX_OK;
}

void mbx_observe(mbx_recognizer *self, mbx_observer observe, void *context)
{
    self->observe = observe;
    self->context = context;
}

mbx_status mbx_lose(mbx_recognizer *self, uint32_t count)
{
    if (self == NULL || self->model == NULL) {
        return MBX_ERROR_ARGUMENT;
    }
    self->samples += count;
    return MBX_OK;
}

mbx_status mbx_set_threshold(mbx_recognizer *self, uint16_t label, uint16_t threshold_q15)
{
    if (self == NULL || self->model == NULL || label >= self->model->num_classes) {
        return MBX_ERROR_ARGUMENT;
    }
    const mbx_decision_rule *rule = self->decision.rule;
    mbx_decision_class *known = &self->decision.classes[label];
    const uint32_t before = rule->thresholds_q15[label] != 0u ? rule->thresholds_q15[label] : 1u;
    const uint32_t release = (uint32_t)threshold_q15 * rule->release_q15[label] / before;
    known->threshold_q15 = threshold_q15;
    known->release_q15 = (uint16_t)(release < threshold_q15 ? release : threshold_q15);
    return MBX_OK;
}
