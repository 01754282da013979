#include "mbx_application.h"

#include "mbx_board.h"
#include "mbx_detector.h"
#include "mbx_report.h"

#define LIGHT_SAMPLES (MBX_BOARD_SAMPLE_RATE_HZ / 2u)

/* With more than this waiting, a window is passed over: the core is slower than the stride, and audio comes first. */
#define BACKLOG_SAMPLES (MBX_AUDIO_QUEUE_SAMPLES / 2u)

typedef struct {
    const mbx_application *application;
    mbx_detector detector;
    uint64_t heard;       /* samples */
    uint32_t undecided;   /* samples since the last decision */
    uint32_t light;       /* samples until the light goes out */
    uint32_t passed_over; /* windows */
    uint32_t overruns;    /* blocks, as far as they were told */
} mbx_listener;

static mbx_audio_queue queue;

static int decide(mbx_listener *self)
{
    mbx_result result;
    if (mbx_audio_queue_waiting(&queue) > BACKLOG_SAMPLES) {
        if (mbx_skip_window(self->application->recognizer) != MBX_OK) {
            return 0;
        }
        self->passed_over++;
        mbx_report_count("windows passed over", self->passed_over);
        return 1;
    }
    if (mbx_run(self->application->recognizer, &result) != MBX_OK) {
        return 0;
    }
    if (mbx_detector_decide(&self->detector, &result, self->undecided)) {
        mbx_board_light(1);
        self->light = LIGHT_SAMPLES;
        mbx_report_word(self->application->label(result.label), result.score_q15, self->heard);
    }
    self->undecided = 0;
    return 1;
}

static void pass_time(mbx_listener *self, uint32_t samples)
{
    self->heard += samples;
    self->undecided += samples;
    if (self->light != 0u) {
        self->light -= samples < self->light ? samples : self->light;
        if (self->light == 0u) {
            mbx_board_light(0);
        }
    }
    if (queue.overrun_blocks != self->overruns) {
        self->overruns = queue.overrun_blocks;
        mbx_report_count("overruns", self->overruns);
    }
}

int mbx_application_run(const mbx_application *self)
{
    mbx_listener listener = {.application = self};
    mbx_detector_init(&listener.detector, self->is_word);
    mbx_audio_queue_init(&queue);
    mbx_board_audio_start(&queue);
    for (;;) {
        uint32_t count = 0;
        size_t consumed = 0;
        const int16_t *samples = mbx_audio_queue_peek(&queue, &count);
        if (count == 0u) {
            mbx_board_wait();
            continue;
        }
        const mbx_status status = mbx_feed(self->recognizer, samples, count, &consumed);
        mbx_audio_queue_release(&queue, (uint32_t)consumed);
        pass_time(&listener, (uint32_t)consumed);
        if (status == MBX_WINDOW_READY ? !decide(&listener) : status != MBX_OK) {
            return 1;
        }
    }
}
