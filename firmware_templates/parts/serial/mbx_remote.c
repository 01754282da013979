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

void mbx_remote_take(mbx_remote *self, uint32_t token, uint16_t windows, uint32_t offset, const uint8_t *bytes,
                     uint32_t size)
{
    if (!belongs(self, token, windows) || offset != self->received || size == 0u) {
        return;
    }
    const mbx_model *model = self->recognizer->model;
    const uint32_t most = self->kind == MBX_REMOTE_CLIP       ? 2u * model->clip_samples
                          : self->kind == MBX_REMOTE_FEATURES ? mbx_remote_feature_bytes(self)
                                                              : UINT32_MAX;
    if (size > most - offset || (self->kind != MBX_REMOTE_FEATURES && size % 2u != 0u)) {
        fail(self, MBX_REMOTE_BAD_SIZE);
        return;
    }
    if (self->kind == MBX_REMOTE_FEATURES) { /* to where the network reads them; nothing else uses the arena now */
        memcpy((uint8_t *)self->recognizer->memory.arena + model->input_offset + offset, bytes, size);
        self->crc = mbx_crc32(self->crc, bytes, size);
        self->received += size;
        return;
    }
    self->state = MBX_REMOTE_TAKING;
    take_samples(self, bytes, size);
}

static void finish_clip(mbx_remote *self)
{
    /* A front end without centring, or that drops frames, may have had its window before the clip's end. */
    if (self->windows == 0u) {
        if (mbx_finish_clip(self->recognizer) == MBX_WINDOW_READY) {
            run(self);
        } else {
            fail(self, MBX_REMOTE_BAD_STATUS);
        }
    }
}

static void run_features(mbx_remote *self)
{
    mbx_result result;
    const int8_t *input = (const int8_t *)self->recognizer->memory.arena + self->recognizer->model->input_offset;
    self->checksum_count = 0;
    const mbx_status status = mbx_run_features(self->recognizer, input, &result);
    keep_result(self, status, &result);
}

void mbx_remote_finish(mbx_remote *self, uint32_t token, uint16_t windows, uint32_t total, uint32_t crc)
{
    if (!belongs(self, token, windows) || total != self->received) {
        return; /* some are still missing: the host sees that */
    }
    if (crc != self->crc) {
        fail(self, MBX_REMOTE_BAD_CRC);
        return;
    }
    if (self->kind == MBX_REMOTE_CLIP) {
        finish_clip(self);
    } else if (self->kind == MBX_REMOTE_FEATURES) {
        if (total != mbx_remote_feature_bytes(self)) {
            fail(self, MBX_REMOTE_BAD_SIZE);
            return;
        }
        run_features(self);
    }
    if (self->state != MBX_REMOTE_FAILED) {
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

uint8_t mbx_remote_feature(const mbx_remote *self, uint32_t i)
{
    const mbx_recognizer *recognizer = self->recognizer;
    const mbx_model *model = recognizer->model;
    const uint32_t before = (uint32_t)model->pad_frames_before * model->coefficients;
    const uint32_t ring = (uint32_t)model->audio_frames * model->coefficients;
    if (i < before || i >= before + ring) {
        return (uint8_t)model->feature_zero_point;
    }
    const uint32_t place = recognizer->ring_head * model->coefficients + (i - before);
    return (uint8_t)recognizer->memory.ring[place < ring ? place : place - ring];
}
