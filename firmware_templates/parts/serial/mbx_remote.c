#include "mbx_remote.h"

#include <string.h>

#include "mbx_frame.h"

#define MAX_BLOCK_SAMPLES 128u

void mbx_remote_init(mbx_remote *self, mbx_recognizer *recognizer)
{
    memset(self, 0, sizeof *self);
    self->recognizer = recognizer;
}

static void keep_checksum(void *context, int stage, const void *data, uint32_t bytes)
{
    mbx_remote *self = context;
    const uint32_t place = stage >= MBX_STAGE_LAYERS ? (uint32_t)(stage - MBX_STAGE_LAYERS) + 1u : 0u;
    if (stage < MBX_STAGE_FEATURES || place >= MBX_REMOTE_MAX_CHECKSUMS) {
        return;
    }
    for (; self->checksum_count <= place; self->checksum_count++) {
        self->checksums[self->checksum_count] = 0;
    }
    self->checksums[place] = mbx_crc32(self->checksums[place], data, bytes); /* a layer of a cascade comes in parts */
}

static mbx_status reset_recognizer(mbx_remote *self)
{
    const mbx_memory memory = self->recognizer->memory;
    return mbx_init(self->recognizer, self->recognizer->model, &memory);
}

static void fail(mbx_remote *self, uint8_t failure)
{
    self->state = MBX_REMOTE_FAILED;
    self->failure = failure;
}

uint32_t mbx_remote_feature_bytes(const mbx_remote *self)
{
    const mbx_model *model = self->recognizer->model;
    return mbx_input_frames(model) * model->coefficients;
}

/* A clip of a model that begins in silence is of any length, and has any number of decisions. */
static int has_one_window(const mbx_remote *self)
{
    return self->kind == MBX_REMOTE_CLIP && self->recognizer->model->silent_frame == NULL;
}

static uint32_t most_bytes(const mbx_remote *self)
{
    const mbx_model *model = self->recognizer->model;
    if (has_one_window(self)) {
        return 2u * model->clip_samples;
    }
    return self->kind == MBX_REMOTE_FEATURES && model->stream == NULL ? mbx_remote_feature_bytes(self) : UINT32_MAX;
}

void mbx_remote_begin(mbx_remote *self, uint32_t token, uint8_t kind, uint16_t block)
{
    if ((self->state != MBX_REMOTE_IDLE && token == self->token) || (self->has_ended && token == self->ended)) {
        return; /* it came twice, or late */
    }
    self->token = token;
    self->kind = kind;
    self->block = block == 0u || block > MAX_BLOCK_SAMPLES ? MAX_BLOCK_SAMPLES : block;
    self->received = 0;
    self->crc = 0;
    self->windows = 0;
    self->checksum_count = 0;
    self->failure = MBX_REMOTE_OK;
    self->state = MBX_REMOTE_TAKING;
    if (kind > MBX_REMOTE_FEATURES) {
        fail(self, MBX_REMOTE_BAD_KIND);
    } else if (reset_recognizer(self) != MBX_OK) {
        fail(self, MBX_REMOTE_BAD_STATUS);
    } else {
        mbx_observe(self->recognizer, keep_checksum, self);
    }
}

static int belongs(const mbx_remote *self, uint32_t token, uint16_t windows)
{
    return (self->state == MBX_REMOTE_TAKING || self->state == MBX_REMOTE_RESULT) && token == self->token &&
           windows == self->windows;
}

static void keep_result(mbx_remote *self, mbx_status status, const mbx_result *result)
{
    if (status != MBX_OK) {
        fail(self, MBX_REMOTE_BAD_STATUS);
        return;
    }
    self->label = result->label;
    self->score_q15 = result->score_q15;
    self->event = result->event;
    self->windows++;
    self->state = MBX_REMOTE_RESULT;
}

static void run(mbx_remote *self)
{
    mbx_result result;
    self->checksum_count = 0;
    const mbx_status status = mbx_run(self->recognizer, &result);
    keep_result(self, status, &result);
}

/* Feeds samples until they end or a window was run; what was taken counts as received. */
static void take_samples(mbx_remote *self, const uint8_t *bytes, uint32_t size)
{
    int16_t samples[MAX_BLOCK_SAMPLES];
    while (size != 0u && self->state == MBX_REMOTE_TAKING) {
        const uint32_t count = size / 2u < self->block ? size / 2u : self->block;
        size_t consumed = 0;
        memcpy(samples, bytes, count * sizeof *samples);
        const mbx_status status = mbx_feed(self->recognizer, samples, count, &consumed);
        self->crc = mbx_crc32(self->crc, bytes, (uint32_t)consumed * 2u);
        self->received += (uint32_t)consumed * 2u;
        bytes += consumed * 2u;
        size -= (uint32_t)consumed * 2u;
        if (status == MBX_WINDOW_READY) {
            run(self);
        } else if (status != MBX_OK) {
            fail(self, MBX_REMOTE_BAD_STATUS);
        }
    }
}

static void run_features(mbx_remote *self, const int8_t *input)
{
    mbx_result result;
    self->checksum_count = 0;
    const mbx_status status = mbx_run_features(self->recognizer, input, &result);
    keep_result(self, status, &result);
}

/* Takes features to where the network reads them; nothing else uses that place now. A step of a stream runs when it is
 * whole, a window when the host has finished. */
static void take_features(mbx_remote *self, const uint8_t *bytes, uint32_t size)
{
    const mbx_recognizer *recognizer = self->recognizer;
    const mbx_model *model = recognizer->model;
    int8_t *input = (int8_t *)recognizer->memory.arena + model->input_offset;
    const uint32_t whole = mbx_remote_feature_bytes(self), place = self->received % whole;
    const uint32_t count = size < whole - place ? size : whole - place;
    memcpy(input + place, bytes, count);
    self->crc = mbx_crc32(self->crc, bytes, count);
    self->received += count;
    if (model->stream != NULL && place + count == whole) {
        run_features(self, input);
    }
}

void mbx_remote_take(mbx_remote *self, uint32_t token, uint16_t windows, uint32_t offset, const uint8_t *bytes,
                     uint32_t size)
{
    if (!belongs(self, token, windows) || offset != self->received || size == 0u) {
        return;
    }
    if (size > most_bytes(self) - offset || (self->kind != MBX_REMOTE_FEATURES && size % 2u != 0u)) {
        fail(self, MBX_REMOTE_BAD_SIZE);
        return;
    }
    self->state = MBX_REMOTE_TAKING;
    if (self->kind == MBX_REMOTE_FEATURES) {
        take_features(self, bytes, size);
    } else {
        take_samples(self, bytes, size);
    }
}

static void finish_clip(mbx_remote *self)
{
    /* A front end without centring, or that drops frames, may have had its window before the clip's end. */
    if (has_one_window(self) && self->windows != 0u) {
        self->state = MBX_REMOTE_DONE;
        return;
    }
    const mbx_status status = mbx_finish_clip(self->recognizer);
    if (status == MBX_WINDOW_READY) {
        run(self);
        if (!has_one_window(self)) {
            return; /* there may be more in the silence behind it: the host finishes again */
        }
    } else if (status != MBX_OK) {
        fail(self, MBX_REMOTE_BAD_STATUS);
    }
    if (self->state != MBX_REMOTE_FAILED) {
        self->state = MBX_REMOTE_DONE;
    }
}

static void finish_features(mbx_remote *self)
{
    const mbx_model *model = self->recognizer->model;
    const uint32_t whole = mbx_remote_feature_bytes(self);
    if (self->received == 0u || self->received % whole != 0u) {
        fail(self, MBX_REMOTE_BAD_SIZE);
    } else if (model->stream == NULL) {
        run_features(self, (const int8_t *)self->recognizer->memory.arena + model->input_offset);
    }
    if (self->state != MBX_REMOTE_FAILED) {
        self->state = MBX_REMOTE_DONE;
    }
}

void mbx_remote_finish(mbx_remote *self, uint32_t token, uint16_t windows, uint32_t total, uint32_t crc)
{
    if (!belongs(self, token, windows) || total != self->received) {
        return; /* some are still missing: the host sees that */
    }
    if (crc != self->crc) {
        fail(self, MBX_REMOTE_BAD_CRC);
    } else if (self->kind == MBX_REMOTE_CLIP) {
        finish_clip(self);
    } else if (self->kind == MBX_REMOTE_FEATURES) {
        finish_features(self);
    } else {
        self->state = MBX_REMOTE_DONE;
    }
}

int mbx_remote_end(mbx_remote *self)
{
    if (self->state == MBX_REMOTE_IDLE) {
        return 0;
    }
    self->ended = self->token;
    self->has_ended = 1;
    self->state = MBX_REMOTE_IDLE;
    return reset_recognizer(self) == MBX_OK;
}

int mbx_remote_has_result(const mbx_remote *self, uint32_t token, uint16_t windows)
{
    return (self->state == MBX_REMOTE_RESULT || self->state == MBX_REMOTE_DONE) && token == self->token &&
           windows == self->windows && windows != 0u;
}

uint32_t mbx_remote_kept_feature_bytes(const mbx_remote *self)
{
    const int kept = self->kind != MBX_REMOTE_FEATURES && self->recognizer->model->stream == NULL;
    return kept ? mbx_remote_feature_bytes(self) : 0u;
}

uint8_t mbx_remote_feature(const mbx_remote *self, uint32_t i)
{
    const mbx_recognizer *recognizer = self->recognizer;
    const mbx_model *model = recognizer->model;
    const uint32_t before = (uint32_t)model->pad_frames_before * model->coefficients;
    const uint32_t ring = recognizer->ring_frames * model->coefficients;
    if (i < before || i >= before + ring) {
        return (uint8_t)model->feature_zero_point;
    }
    const uint32_t place = recognizer->ring_head * model->coefficients + (i - before);
    return (uint8_t)recognizer->memory.ring[place < ring ? place : place - ring];
}
