/* Audio in, words out: one instance of a model and its front end, for a clip or for continuous audio.
 *
 *     init -> feed any number of samples, any number of times -> MBX_WINDOW_READY -> run -> read the result
 *
 * The generated header <prefix>.h wraps these functions for one model, with an instance of static size.
 * Twin: mbx_deploy/sim/model.py.
 */
#ifndef MBX_RECOGNIZER_H
#define MBX_RECOGNIZER_H

#include <stddef.h>
#include <stdint.h>

#include "mbx_decision.h"
#include "mbx_frontend.h"
#include "mbx_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a model listens that streams; const, in flash. A run takes the step_frames newest frames. */
typedef struct {
    uint16_t step_frames;
    uint32_t bins_offset;  /* of the front end's working memory in the arena, in use between runs */
    uint32_t mels_offset;
    uint32_t coefficients_offset;
    void (*reset)(int8_t *arena);
} mbx_streaming;

/* The network, its tables and sizes; const, in flash. */
typedef struct {
    const mbx_frontend *frontend;
    uint32_t clip_samples;
    uint16_t audio_frames;      /* frames of a window that come from audio */
    uint16_t pad_frames_before; /* frames of zeros before and after them */
    uint16_t pad_frames_after;
    uint16_t coefficients; /* values in a frame */
    uint16_t num_classes;
    uint16_t stride_frames; /* frames between windows of continuous audio */
    int32_t feature_multiplier;
    int8_t feature_shift;
    int8_t feature_zero_point;
    uint32_t arena_bytes;
    uint32_t input_offset;  /* of the network's input in the arena */
    uint32_t output_offset; /* of its logits */
    void (*invoke)(int8_t *arena, mbx_observer observe, void *context);
    const uint16_t *exponentials_q15; /* [256] */
    const mbx_decision_rule *decision; /* when a word was said */
    const mbx_streaming *stream; /* NULL: a window at a time */
    const int8_t *silent_frame; /* [coefficients] of digital silence, which continuous audio begins with; or NULL */
    uint16_t tail_frames;       /* of digital silence that then follow a clip alone, so that its end is heard out */
} mbx_model;

/* The memory of an instance; the generated header gives the sizes. */
typedef struct {
    int16_t *history;         /* [window_length + 3] samples that a frame to come still needs */
    int32_t *coefficients;    /* [coefficients] of one frame, Q16; of a stream NULL: in the arena */
    int8_t *ring;             /* [audio_frames][coefficients] features, the oldest one at ring_head; of a stream NULL */
    uint64_t *arena;          /* arena_bytes of activations, and the front end's working memory between inferences */
    uint16_t *posteriors_q15; /* [num_classes] */
    int8_t *logits;           /* [num_classes] */
    mbx_decision_class *decision_classes; /* [num_classes] */
    uint16_t *recent_q15;     /* [smoothing][num_classes] posteriors of the last decisions */
} mbx_memory;

typedef struct {
    const int8_t *logits;           /* [num_classes], the network's output as it is */
    const uint16_t *posteriors_q15; /* [num_classes], 32768 is 1 */
    uint16_t label;                 /* the class with the largest logit, the first of equals */
    uint16_t score_q15;             /* its posterior */
    mbx_event event;                /* the word that was said, if this is the decision that says so */
} mbx_result;

/* State of an instance. Its memory lies in the same struct of the generated header; don't copy it once it is set up. */
typedef struct {
    const mbx_model *model;
    mbx_memory memory;
    mbx_decision decision;
    uint64_t samples;         /* that arrived since the start, lost ones included */
    mbx_extent extent;        /* of the recording, in the frame that comes next */
    uint32_t history_count;   /* samples in history, from the margin on */
    uint32_t clip_remaining;  /* samples until a clip would be full; 0 from then on */
    uint32_t ring_frames;     /* slots */
    uint32_t ring_head;       /* slot of the oldest frame, and of the next one to be written */
    uint32_t tail_remaining;  /* samples of silence that a stream still takes behind a clip */
    uint32_t frames_until_window;
    uint8_t started;          /* the stream's beginning has been extended */
    uint8_t finished;         /* the clip's end has been extended */
    uint8_t window_ready;
    uint8_t past_clip;        /* more samples than a clip has were fed, or its window was run: it can't be finished */
    mbx_observer observe;
    void *context;
} mbx_recognizer;

/* Sets up an instance. */
MBX_MUST_CHECK mbx_status mbx_init(mbx_recognizer *self, const mbx_model *model, const mbx_memory *memory);

/* Sets an instance back to the beginning of a clip or stream; one that streams has then heard silence for ever. */
MBX_MUST_CHECK mbx_status mbx_recognizer_reset(mbx_recognizer *self);

/* Takes count samples (16-bit mono at the model's rate). Stops early where a window becomes ready:
 * *consumed says how many samples were taken. Returns MBX_OK or MBX_WINDOW_READY. */
MBX_MUST_CHECK mbx_status mbx_feed(mbx_recognizer *self, const int16_t *samples, size_t count, size_t *consumed);

/* Ends a clip: pads it with zeros to clip_samples, then with its reflection. Returns MBX_WINDOW_READY.
 * Only for a clip: MBX_ERROR_STATE once a stream has passed more samples than a clip has.
 * Of a model that streams: hears silence behind the clip, and returns MBX_WINDOW_READY where a decision is due; call it
 * again after each run until it returns MBX_OK. */
MBX_MUST_CHECK mbx_status mbx_finish_clip(mbx_recognizer *self);

/* Runs the network on the window, or on the newest frames of a stream. *result points into the instance, valid until the next run. */
MBX_MUST_CHECK mbx_status mbx_run(mbx_recognizer *self, mbx_result *result);

/* Passes over the window that is ready, for a core that is behind; its frames stay, those of a stream are lost.
 * MBX_ERROR_STATE where none is. */
MBX_MUST_CHECK mbx_status mbx_skip_window(mbx_recognizer *self);

/* Runs the network on features from elsewhere: [frames][coefficients], padded frames included; of a stream
 * [step_frames][coefficients], the next ones. */
MBX_MUST_CHECK mbx_status mbx_run_features(mbx_recognizer *self, const int8_t *features, mbx_result *result);

/* Counts samples that were lost, so that times stay right; the audio goes on behind the gap as if there were none. */
MBX_MUST_CHECK mbx_status mbx_lose(mbx_recognizer *self, uint32_t count);

/* Changes the threshold of a word, its release level in proportion; above 32768 it is never said. Kept until init. */
MBX_MUST_CHECK mbx_status mbx_set_threshold(mbx_recognizer *self, uint16_t label, uint16_t threshold_q15);

/* Frames of the network's input: of a window, padded ones included, or of a step. */
uint32_t mbx_input_frames(const mbx_model *model);

/* For verification: observe sees each stage's result. NULL ends it. */
void mbx_observe(mbx_recognizer *self, mbx_observer observe, void *context);

#ifdef __cplusplus
}
#endif

#endif
