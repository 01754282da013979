#include "mbx_application.h"

#include "mbx_board.h"
#include "mbx_light.h"
#include "mbx_link.h"
#include "mbx_report.h"

#define TENTH_SAMPLES (MBX_BOARD_SAMPLE_RATE_HZ / 10u)
#define LIGHT_SAMPLES (MBX_BOARD_SAMPLE_RATE_HZ / 2u)

/* With more than this waiting, a window is passed over: the core is slower than the stride, and audio comes first. */
#define BACKLOG_SAMPLES (MBX_AUDIO_QUEUE_SAMPLES / 2u)

typedef struct {
    const mbx_application *application;
    uint64_t heard;    /* samples since the start, lost ones included: the log's clock */
    uint32_t windows;  /* since the start */
    uint32_t overruns; /* blocks, as far as they were told */
    uint32_t missed;   /* the same */
} mbx_listener;

static mbx_audio_queue queue;
static mbx_link link;

/* For a terminal; a host that speaks in frames is told with the level. */
static void report_count(const char *what, uint32_t count)
{
    if (!link.framed) {
        mbx_report_count(what, count);
    }
}

static void report_text(const char *text)
{
    if (!link.framed) {
        mbx_report_text(text);
    }
}

static int decide(mbx_listener *self)
{
    mbx_result result;
    self->windows++;
    if (!self->application->host_microphone && mbx_audio_queue_waiting(&queue) > BACKLOG_SAMPLES) {
        if (mbx_skip_window(self->application->recognizer) != MBX_OK) {
            return 0;
        }
        if (link.passed_over++ == 0u) { /* told once: whatever is slow stays slow, and the log would hold nothing else */
            report_text("too slow: windows are passed over");
        }
        return 1;
    }
    if (mbx_run(self->application->recognizer, &result) != MBX_OK) {
        return 0;
    }
    mbx_link_tell_scores(&link, &result, self->windows - 1u);
    if (result.event.word != MBX_NO_WORD) {
        mbx_light_for(LIGHT_SAMPLES);
        if (link.framed) {
            mbx_link_tell_detection(&link, &result, self->windows - 1u);
        } else {
            mbx_report_word(self->application->label(result.event.word), result.event.score_q15,
                            (uint32_t)(self->heard / TENTH_SAMPLES));
        }
    }
    return 1;
}

/* Tells the losses since they were told last. */
static void report_losses(mbx_listener *self)
{
    if (queue.overrun_blocks != self->overruns) {
        self->overruns = queue.overrun_blocks;
        report_count("overruns", self->overruns);
    }
    if (queue.missed_blocks != self->missed) {
        self->missed = queue.missed_blocks;
        report_count("missed blocks", self->missed);
    }
}

int mbx_application_run(const mbx_application *self)
{
    mbx_listener listener = {.application = self};
    mbx_audio_queue_init(&queue);
    mbx_link_init(&link, self, &queue);
    mbx_board_audio_start(&queue);
    for (;;) {
        uint32_t waiting = 0;
        size_t consumed = 0;
        const int arrived = mbx_link_poll(&link);
        const int busy = mbx_link_is_busy(&link); /* the recogniser runs what the host sent, and audio passes by */
        const uint32_t lost = mbx_audio_queue_lost(&queue);
        if (lost != 0u && !busy && mbx_lose(self->recognizer, lost) != MBX_OK) {
            return 1;
        }
        listener.heard += lost;
        link.heard += lost;
        const int16_t *samples = mbx_audio_queue_peek(&queue, &waiting);
        const uint32_t count = mbx_link_limit(&link, waiting);
        if (count == 0u) {
            if (!arrived) {
                mbx_board_wait();
            }
            continue;
        }
        mbx_status status = MBX_OK;
        if (busy) {
            consumed = count;
        } else {
            status = mbx_feed(self->recognizer, samples, count, &consumed);
        }
        mbx_link_hear(&link, samples, (uint32_t)consumed);
        mbx_audio_queue_release(&queue, (uint32_t)consumed);
        listener.heard += consumed;
        report_losses(&listener);
        if (status == MBX_WINDOW_READY ? !decide(&listener) : status != MBX_OK) {
            return 1;
        }
    }
}
