#include "mbx_link.h"

#include <string.h>

#include "mbx_board.h"

enum { READ_RESULT = 0, READ_FEATURES = 1, READ_CHECKSUMS = 2, READ_LABEL = 3 };

#define ANSWER_HEAD_BYTES 15u
#define ANSWER_BYTES (MBX_FRAME_MAX_BODY_BYTES - ANSWER_HEAD_BYTES)
#define SCORES_AT_ONCE 64u
#define DIGEST_BYTES 32u
#define RESULT_HEAD_BYTES 16u /* label, score, and the event: word, score, samples; each little-endian */

void mbx_link_init(mbx_link *self, const mbx_application *application, mbx_audio_queue *queue)
{
    memset(self, 0, sizeof *self);
    self->application = application;
    self->queue = queue;
    mbx_remote_init(&self->remote, application->recognizer);
}

int mbx_link_is_busy(const mbx_link *self)
{
    return self->remote.state != MBX_REMOTE_IDLE;
}

/* --- sending --- */

/* Gives the port what it takes. Returns 1 where nothing is left. */
static int flush(mbx_link *self)
{
    if (self->sent < self->writer.count) {
        self->sent += mbx_board_uart_write(self->writer.bytes + self->sent, self->writer.count - self->sent);
    }
    return self->sent == self->writer.count;
}

/* Returns the writer with a message begun, or NULL where the one before still waits. */
static mbx_frame_writer *begin(mbx_link *self, uint8_t type)
{
    if (!self->framed || !flush(self)) {
        self->left_out += self->framed;
        return NULL;
    }
    mbx_frame_begin(&self->writer, type, self->sequence++);
    return &self->writer;
}

static void end(mbx_link *self)
{
    mbx_frame_end(&self->writer);
    self->sent = 0;
    (void)flush(self);
}

static void put_text(mbx_frame_writer *to, const char *text)
{
    uint32_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    mbx_frame_put(to, text, length);
}

static void tell_hello(mbx_link *self, uint32_t nonce)
{
    const mbx_application *application = self->application;
    const mbx_model *model = application->recognizer->model;
    mbx_frame_writer *to = begin(self, MBX_HELLO);
    if (to == NULL) {
        return;
    }
    const uint32_t flags = (application->host_microphone ? MBX_HELLO_TAKES_AUDIO : 0u) |
                           (self->recording ? MBX_HELLO_RECORDING : 0u) |
                           (mbx_link_is_busy(self) ? MBX_HELLO_BUSY : 0u);
    mbx_frame_put_u32(to, nonce);
    mbx_frame_put_u32(to, flags);
    mbx_frame_put_u32(to, application->build);
    mbx_frame_put(to, application->model_sha256, DIGEST_BYTES);
    mbx_frame_put_u32(to, application->sample_rate_hz);
    mbx_frame_put_u32(to, model->clip_samples);
    mbx_frame_put_u32(to, mbx_remote_feature_bytes(&self->remote));
    mbx_frame_put_u16(to, model->num_classes);
    mbx_frame_put_u16(to, model->stride_frames);
    put_text(to, application->target);
    end(self);
}

static void tell_state(mbx_link *self, uint32_t token)
{
    const mbx_remote *remote = &self->remote;
    mbx_frame_writer *to = begin(self, MBX_STATE);
    if (to == NULL) {
        return;
    }
    const int known = token == remote->token && remote->state != MBX_REMOTE_IDLE;
    mbx_frame_put_u32(to, token);
    mbx_frame_put_u8(to, known ? remote->state : MBX_REMOTE_IDLE);
    mbx_frame_put_u8(to, known ? remote->failure : MBX_REMOTE_OK);
    mbx_frame_put_u16(to, known ? remote->windows : 0u);
    mbx_frame_put_u32(to, known ? remote->received : 0u);
    mbx_frame_put_u32(to, known ? remote->crc : 0u);
    end(self);
}

static void tell_live_state(mbx_link *self)
{
    mbx_frame_writer *to = begin(self, MBX_LIVE_STATE);
    if (to != NULL) {
        mbx_frame_put_u32(to, self->queue->written);
        end(self);
    }
}

static void tell_level(mbx_link *self)
{
    mbx_frame_writer *to = begin(self, MBX_LEVEL);
    if (to != NULL) {
        mbx_frame_put_u32(to, self->heard);
        mbx_frame_put_u16(to, self->peak);
        mbx_frame_put_u32(to, self->level_count);
        mbx_frame_put_u32(to, (uint32_t)self->square_sum);
        mbx_frame_put_u32(to, (uint32_t)(self->square_sum >> 32));
        mbx_frame_put_u32(to, self->queue->overrun_blocks + self->queue->missed_blocks);
        mbx_frame_put_u32(to, self->passed_over);
        mbx_frame_put_u32(to, self->left_out);
        mbx_frame_put_u32(to, self->reader.damaged);
        end(self);
    }
}

void mbx_link_tell_scores(mbx_link *self, const mbx_result *result, uint32_t window)
{
    const uint32_t classes = self->application->recognizer->model->num_classes;
    for (uint32_t first = 0; first < classes; first += SCORES_AT_ONCE) {
        mbx_frame_writer *to = begin(self, MBX_SCORES);
        if (to == NULL) {
            return;
        }
        mbx_frame_put_u32(to, window);
        mbx_frame_put_u32(to, self->heard);
        mbx_frame_put_u16(to, result->label);
        mbx_frame_put_u16(to, first);
        for (uint32_t i = first; i < classes && i < first + SCORES_AT_ONCE; i++) {
            mbx_frame_put_u16(to, result->posteriors_q15[i]);
        }
        end(self);
    }
}

void mbx_link_tell_detection(mbx_link *self, const mbx_result *result, uint32_t window)
{
    mbx_frame_writer *to = begin(self, MBX_DETECTION);
    if (to != NULL) {
        mbx_frame_put_u32(to, window);
        mbx_frame_put_u32(to, self->heard);
        mbx_frame_put_u16(to, result->event.word);
        mbx_frame_put_u16(to, result->event.score_q15);
        end(self);
    }
}

/* --- what was heard --- */

uint32_t mbx_link_limit(mbx_link *self, uint32_t count)
{
    if (!self->framed || !self->recording) {
        return count;
    }
    if (!flush(self) && mbx_audio_queue_waiting(self->queue) <= MBX_AUDIO_QUEUE_SAMPLES / 2u) {
        return 0; /* the queue can still wait for the port */
    }
    return count < MBX_LINK_AUDIO_SAMPLES ? count : MBX_LINK_AUDIO_SAMPLES;
}

static void tell_audio(mbx_link *self, const int16_t *samples, uint32_t count)
{
    mbx_frame_writer *to = begin(self, MBX_AUDIO);
    if (to != NULL) {
        mbx_frame_put_u32(to, self->heard);
        for (uint32_t i = 0; i < count; i++) {
            mbx_frame_put_u16(to, (uint16_t)samples[i]);
        }
        end(self);
    }
}

static void pass_silence(mbx_link *self, uint32_t count)
{
    self->silence += count;
    if (self->silence >= MBX_LINK_SILENT_SAMPLES) { /* the host has gone without a word */
        self->framed = 0;
        self->recording = 0;
        (void)mbx_remote_end(&self->remote);
    }
}

void mbx_link_hear(mbx_link *self, const int16_t *samples, uint32_t count)
{
    if (self->framed && self->recording && count != 0u) {
        tell_audio(self, samples, count);
    }
    self->heard += count;
    if (!self->framed) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const int32_t x = samples[i];
        const uint32_t size = (uint32_t)(x < 0 ? -x : x);
        self->peak = size > self->peak ? (uint16_t)size : self->peak;
        self->square_sum += (uint64_t)size * size;
    }
    self->level_count += count;
    if (self->level_count >= MBX_LINK_LEVEL_SAMPLES) {
        tell_level(self);
        self->level_count = 0;
        self->square_sum = 0;
        self->peak = 0;
    }
    pass_silence(self, count);
}

/* --- the host's messages: body and size of it. What is too short is none. --- */

static void answer_result(mbx_frame_writer *to, const mbx_remote *remote, uint32_t offset, uint32_t count)
{
    const mbx_recognizer *recognizer = remote->recognizer;
    const uint32_t classes = recognizer->model->num_classes;
    const mbx_event *event = &remote->event;
    const uint16_t head[RESULT_HEAD_BYTES / 2u] = {
        remote->label,
        remote->score_q15,
        event->word,
        event->score_q15,
        (uint16_t)event->samples,
        (uint16_t)(event->samples >> 16),
        (uint16_t)(event->samples >> 32),
        (uint16_t)(event->samples >> 48),
    };
    for (uint32_t i = offset; i < offset + count; i++) {
        if (i < RESULT_HEAD_BYTES) {
            const uint32_t value = head[i / 2u];
            mbx_frame_put_u8(to, (i & 1u) != 0u ? value >> 8 : value);
        } else if (i < RESULT_HEAD_BYTES + classes) {
            mbx_frame_put_u8(to, (uint8_t)recognizer->memory.logits[i - RESULT_HEAD_BYTES]);
        } else {
            const uint32_t place = i - RESULT_HEAD_BYTES - classes;
            const uint32_t value = recognizer->memory.posteriors_q15[place / 2u];
            mbx_frame_put_u8(to, place % 2u != 0u ? value >> 8 : value);
        }
    }
}

static uint32_t answer_total(const mbx_link *self, uint32_t what)
{
    const mbx_remote *remote = &self->remote;
    switch (what) {
    case READ_RESULT:
        return RESULT_HEAD_BYTES + 3u * remote->recognizer->model->num_classes;
    case READ_FEATURES:
        return mbx_remote_kept_feature_bytes(remote);
    case READ_CHECKSUMS:
        return 4u * remote->checksum_count;
    case READ_LABEL:
        return remote->recognizer->model->num_classes;
    default:
        return 0;
    }
}

static void read_values(mbx_link *self, const uint8_t *body)
{
    const mbx_remote *remote = &self->remote;
    const uint32_t token = mbx_get_u32(body), windows = mbx_get_u16(body + 4), what = body[6];
    const uint32_t offset = mbx_get_u32(body + 7), total = answer_total(self, what);
    if (what != READ_LABEL && !mbx_remote_has_result(remote, token, (uint16_t)windows)) {
        tell_state(self, token);
        return;
    }
    if (offset >= total) {
        return;
    }
    mbx_frame_writer *to = begin(self, MBX_ANSWER);
    if (to == NULL) {
        return;
    }
    const uint32_t count = total - offset < ANSWER_BYTES ? total - offset : ANSWER_BYTES;
    mbx_frame_put(to, body, 11u); /* token, windows, what, offset */
    mbx_frame_put_u32(to, total);
    if (what == READ_LABEL) {
        put_text(to, self->application->label((uint16_t)offset));
    } else if (what == READ_RESULT) {
        answer_result(to, remote, offset, count);
    } else {
        for (uint32_t i = offset; i < offset + count; i++) {
            const uint32_t word = what == READ_CHECKSUMS ? remote->checksums[i / 4u] : 0u;
            mbx_frame_put_u8(to, what == READ_CHECKSUMS ? word >> 8u * (i % 4u) : mbx_remote_feature(remote, i));
        }
    }
    end(self);
}

/* The host's audio goes where a microphone's would; a piece that is not the next one, or finds no room, comes again. */
static void take_live(mbx_link *self, const uint8_t *body, uint32_t size)
{
    int16_t samples[MBX_LINK_AUDIO_SAMPLES];
    const uint32_t count = (size - 4u) / 2u;
    const uint32_t room = MBX_AUDIO_QUEUE_SAMPLES - mbx_audio_queue_waiting(self->queue);
    if (!self->application->host_microphone) {
        return;
    }
    if (count <= MBX_LINK_AUDIO_SAMPLES && count <= room && mbx_get_u32(body) == self->queue->written) {
        for (uint32_t i = 0; i < count; i++) {
            samples[i] = (int16_t)mbx_get_u16(body + 4u + 2u * i);
        }
        (void)mbx_audio_queue_push(self->queue, samples, count);
    }
    tell_live_state(self);
}

static void ping(mbx_link *self, uint32_t nonce)
{
    if (!self->framed) {
        self->framed = 1;
        self->left_out = 0;
        self->level_count = 0;
        self->square_sum = 0;
        self->peak = 0;
    }
    tell_hello(self, nonce);
}

static void leave(mbx_link *self)
{
    self->framed = 0;
    self->recording = 0;
    (void)mbx_remote_end(&self->remote);
}

static void serve(mbx_link *self, uint32_t type, const uint8_t *body, uint32_t size)
{
    static const uint8_t least[MBX_LIVE + 1u] = {
        [MBX_PING] = 4,   [MBX_BYE] = 0,     [MBX_RECORD] = 1, [MBX_BEGIN] = 7, [MBX_VALUES] = 10,
        [MBX_FINISH] = 14, [MBX_READ] = 11, [MBX_END] = 4,    [MBX_LIVE] = 4,
    };
    mbx_remote *remote = &self->remote;
    if (type > MBX_LIVE || size < least[type] || (!self->framed && type != MBX_PING)) {
        return;
    }
    self->silence = 0;
    const uint32_t token = size >= 4u ? mbx_get_u32(body) : 0u;
    switch (type) {
    case MBX_PING:
        ping(self, token);
        break;
    case MBX_BYE:
        leave(self);
        break;
    case MBX_RECORD:
        self->recording = body[0] != 0u;
        break;
    case MBX_BEGIN:
        mbx_remote_begin(remote, token, body[4], (uint16_t)mbx_get_u16(body + 5));
        tell_state(self, token);
        break;
    case MBX_VALUES:
        mbx_remote_take(remote, token, (uint16_t)mbx_get_u16(body + 4), mbx_get_u32(body + 6), body + 10, size - 10u);
        tell_state(self, token);
        break;
    case MBX_FINISH:
        mbx_remote_finish(remote, token, (uint16_t)mbx_get_u16(body + 4), mbx_get_u32(body + 6),
                          mbx_get_u32(body + 10));
        tell_state(self, token);
        break;
    case MBX_READ:
        read_values(self, body);
        break;
    case MBX_END:
        if (token == remote->token) {
            (void)mbx_remote_end(remote);
        }
        tell_state(self, token);
        break;
    case MBX_LIVE:
        take_live(self, body, size);
        break;
    default:
        break;
    }
}

int mbx_link_poll(mbx_link *self)
{
    uint8_t byte;
    int arrived = !flush(self);
    while (mbx_board_uart_read(&byte, 1) == 1u) {
        arrived = 1;
        const uint32_t plain = mbx_frame_take(&self->reader, byte);
        if (plain == 0u) {
            continue;
        }
        const uint8_t *bytes = self->reader.bytes;
        if (bytes[0] != MBX_FRAME_VERSION) {
            self->framed = 1;
            tell_hello(self, 0); /* its first byte tells the version that is spoken here */
        } else {
            serve(self, bytes[1], bytes + MBX_FRAME_HEADER_BYTES, plain - MBX_FRAME_HEADER_BYTES);
        }
        return 1;
    }
    return arrived;
}
