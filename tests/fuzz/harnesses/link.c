/* Any messages to a device, and any bytes between them: it stays whole and goes on answering.
 *
 * The input is a list of: what (a message's type, or 0xFF for bytes as they are, 0xFE for audio, 0xFD for how much room the
 * port has), a length, and so many bytes. A message is framed here, so that its CRC is right.
 */
#include <string.h>

#include "kws.h"
#include "mbx_board.h"
#include "mbx_link.h"

#define NEED(condition)       \
    do {                      \
        if (!(condition)) {   \
            __builtin_trap(); \
        }                     \
    } while (0)

static const uint8_t *arriving;
static uint32_t arriving_count, room;
static mbx_frame_reader host;
static uint32_t answers;

uint32_t mbx_board_uart_write(const uint8_t *data, uint32_t size)
{
    const uint32_t count = size < room ? size : room;
    for (uint32_t i = 0; i < count; i++) {
        answers += mbx_frame_take(&host, data[i]) != 0u;
    }
    return count;
}

uint32_t mbx_board_uart_read(uint8_t *data, uint32_t size)
{
    const uint32_t count = size < arriving_count ? size : arriving_count;
    if (count != 0u) {
        memcpy(data, arriving, count);
        arriving += count;
        arriving_count -= count;
    }
    return count;
}

void mbx_board_init(void)
{
}

void mbx_board_audio_start(mbx_audio_queue *queue)
{
    (void)queue;
}

void mbx_board_light(int on)
{
    (void)on;
}

void mbx_board_wait(void)
{
}

static void deliver(mbx_link *link, const uint8_t *data, uint32_t size)
{
    arriving = data;
    arriving_count = size;
    for (uint32_t polls = 0; polls < 2000u && (mbx_link_poll(link) || arriving_count != 0u); polls++) {
    }
}

static void hear(kws_t *recognizer, mbx_link *link, const uint8_t *data, uint32_t size)
{
    int16_t samples[256];
    mbx_result result;
    const uint32_t count = mbx_link_limit(link, size / 2u < 256u ? size / 2u : 256u);
    NEED(count <= 256u);
    memcpy(samples, data, 2u * count);
    mbx_link_hear(link, samples, count);
    size_t consumed = 0;
    if (!mbx_link_is_busy(link) && kws_feed(recognizer, samples, count, &consumed) == MBX_WINDOW_READY &&
        kws_run(recognizer, &result) == MBX_OK) {
        mbx_link_tell_scores(link, &result, 7u);
        mbx_link_tell_detection(link, &result, 7u);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static kws_t recognizer;
    static mbx_link link;
    static mbx_audio_queue queue;
    static mbx_frame_writer writer;
    static const uint8_t sha256[32];
    const mbx_application application = {
        .recognizer = &recognizer.core,
        .label = kws_label,
        .target = "fuzz",
        .model_sha256 = sha256,
        .build = KWS_DIGEST,
        .sample_rate_hz = KWS_SAMPLE_RATE_HZ,
        .host_microphone = (uint8_t)(size != 0u && (data[size - 1u] & 1u)),
    };
    memset(&recognizer, 0x5A, sizeof recognizer);
    memset(&host, 0, sizeof host);
    room = 64u;
    NEED(kws_init(&recognizer) == MBX_OK);
    mbx_audio_queue_init(&queue);
    memset(&link, 0, sizeof link);
    mbx_link_init(&link, &application, &queue);
    uint16_t sequence = 0;
    for (size_t at = 0; at + 2u <= size;) {
        const uint8_t what = data[at];
        size_t count = data[at + 1u];
        at += 2u;
        count = count < size - at ? count : size - at;
        if (what == 0xFFu) {
            deliver(&link, data + at, (uint32_t)count);
        } else if (what == 0xFEu) {
            hear(&recognizer, &link, data + at, (uint32_t)count);
        } else if (what == 0xFDu) {
            room = count != 0u ? data[at] : 64u;
        } else {
            mbx_frame_begin(&writer, what, sequence++);
            mbx_frame_put(&writer, data + at, (uint32_t)count);
            mbx_frame_end(&writer);
            deliver(&link, writer.bytes, writer.count);
        }
        at += count;
    }
    NEED(host.damaged == 0u || link.sequence != 0u);
    /* Whatever happened, a host that asks is answered. */
    room = 64u;
    const uint32_t before = answers;
    for (uint32_t tries = 0; tries < 3u; tries++) {
        mbx_frame_begin(&writer, MBX_PING, sequence++);
        mbx_frame_put_u32(&writer, 77u);
        mbx_frame_end(&writer);
        deliver(&link, writer.bytes, writer.count);
    }
    NEED(answers != before);
    return 0;
}
