/* The MFCC front end in integers: one frame of int16 samples -> one frame of coefficients.
 *
 * Twin: mbx_deploy/sim/frontend.py, the same stages in the same order. The formats of each stage, the tables and the
 * proof that no stage leaves its type: mbx_deploy/frontend.py.
 */
#ifndef MBX_FRONTEND_H
#define MBX_FRONTEND_H

#include <stdint.h>

#include "mbx_runtime.h"

#define MBX_MAX_MELS 128
#define MBX_LOG_MEL_FRACTION_BITS 24
#define MBX_DCT_FRACTION_BITS 31
#define MBX_COEFFICIENT_FRACTION_BITS 16
#define MBX_PREEMPHASIS_FRACTION_BITS 30
#define MBX_EMPHASIZED_SHIFT 14
#define MBX_MAGNITUDE_FRACTION_BITS 26

#ifdef __cplusplus
extern "C" {
#endif

/* Tables and sizes; const, in flash. */
typedef struct {
    uint16_t window_length;          /* samples under the window, at most n_fft */
    uint16_t hop_length;             /* samples from frame to frame */
    uint16_t n_fft;                  /* a power of two, 64 to 2048 */
    uint16_t lead;                   /* samples by which frame 0 begins before sample 0: window_length / 2, or 0 */
    uint16_t n_mels;                 /* at most MBX_MAX_MELS */
    uint16_t n_mfcc;                 /* 0: the log-mels are the coefficients */
    uint16_t zero_edges;             /* 1: zeros lie beyond a recording's ends, 0: its reflection does */
    uint16_t dct_folds;              /* how often even rows of the DCT are folded again */
    int32_t preemphasis_q30;         /* 0: none */
    int32_t ln2_q24;
    int32_t log_bias_q24;            /* ln of the energies' scale */
    uint16_t magnitude;              /* 1: filters add up magnitudes, 0: powers. With mbx_frontend_options.h only */
    uint16_t log_clamp;              /* 1: log_offset stands for what is smaller, 0: it is added. With it only, too */
    uint64_t log_offset;             /* at the energies' scale */
    const int32_t *window_q29;       /* [window_length] */
    const int32_t *twiddle_q31;      /* [n_fft / 2][2] cos, sin of 2 pi k / n_fft */
    const uint16_t *mel_first;       /* [n_mels] first bin of a filter */
    const uint16_t *mel_count;       /* [n_mels] bins of a filter */
    const uint32_t *mel_weights_q32; /* [sum of mel_count] */
    const int32_t *log_q24;          /* [257] ln(1 + i / 256) */
    const int32_t *dct_q31;          /* rows of the DCT in the order of mbx_dct() */
} mbx_frontend;

typedef struct {
    int32_t re;
    int32_t im;
} mbx_line;

/* A spectrum line, then its power in the same place, then perhaps its magnitude. */
typedef union {
    mbx_line line;
    uint64_t power;
} mbx_bin;

/* Working memory of one frame: n_fft / 2 + 1 bins, and n_mels energies, which the log-mels overwrite. */
typedef union {
    uint64_t energy;
    int32_t log_q24;
} mbx_mel;

typedef struct {
    mbx_bin *bins; /* [n_fft / 2 + 1] */
    mbx_mel *mels; /* [n_mels] */
} mbx_frontend_memory;

/* Stages that an observer sees; layers of the network follow from MBX_STAGE_LAYERS on. */
enum {
    MBX_STAGE_WINDOWED = 0, /* int32 [window_length] */
    MBX_STAGE_SPECTRUM,     /* int32 [n_fft / 2 + 1][2] */
    MBX_STAGE_POWER,        /* uint64 [n_fft / 2 + 1] */
    MBX_STAGE_MEL,          /* mbx_mel [n_mels], energies */
    MBX_STAGE_LOG_MEL,      /* mbx_mel [n_mels], logarithms */
    MBX_STAGE_COEFFICIENTS, /* int32 [n_mfcc or n_mels] */
    MBX_STAGE_FEATURES      /* int8 [frames][coefficients] */
};

/* Where a recording lies in a frame: the position of its first sample, and the position behind its last one. Before the
 * frame or behind it is as good as anywhere there. */
typedef struct {
    int32_t first;
    int32_t end;
} mbx_extent;

/* With preemphasis the two samples before a frame, and the one behind a recording's first frame, are read as well. */
#define MBX_SAMPLES_BEFORE_FRAME 2

/* Writes the coefficients of one frame, Q16.
 * samples: [window_length]; coefficients_q16: [n_mfcc or n_mels]. */
void mbx_frame_coefficients(const mbx_frontend *frontend, const int16_t *samples, mbx_extent extent,
                            int32_t *coefficients_q16, mbx_frontend_memory memory, mbx_observer observe, void *context);

/* round(coefficient / scale) + zero_point, limited to int8; multiplier / 2^shift is 2^-16 / scale, shift 33 to
 * 62. */
void mbx_quantize_features(const int32_t *coefficients_q16, int8_t *features, int count, int32_t multiplier, int shift,
                           int32_t zero_point);

#ifdef __cplusplus
}
#endif

#endif
