/* A network that streams: its states live in the arena from step to step. compiler/streaming.py makes the step, the
 * generated call list runs it. Twin: mbx_deploy/sim/stream.py.
 */
#ifndef MBX_STREAM_H
#define MBX_STREAM_H

#include "mbx_kernels.h"
#include "mbx_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a state holds before the first step: the same row, rows times, at offset in the arena. */
typedef struct {
    uint32_t offset;
    uint16_t rows;
    uint16_t row_bytes;
    const void *row;
} mbx_state;

/* The newest bytes of a state move to its start. */
typedef struct {
    uint32_t first;
    uint32_t bytes;
} mbx_keep_call;

/* A mean over the blocks of rows that the last steps added. positions: that a step adds. */
typedef struct {
    mbx_mean_call mean; /* of all positions */
    uint16_t positions;
    uint16_t blocks;
} mbx_stream_mean_call;

typedef struct {
    uint16_t positions;
    uint16_t channels;
    uint16_t blocks;
} mbx_stream_max_call;

/* Sets states to what a stream holds that has heard digital silence for ever. */
void mbx_reset_states(int8_t *arena, const mbx_state *states, uint32_t count);

/* output is input: the whole state. */
void mbx_keep_rows(const mbx_keep_call *call, const int8_t *input, int8_t *output);

/* input [positions][channels], the newest ones; output [channels]: over all blocks. sums [blocks][channels]: int16 of a mean,
 * int8 of a maximum. */
void mbx_stream_mean(const mbx_stream_mean_call *call, const int8_t *input, int8_t *output, void *sums);
void mbx_stream_max(const mbx_stream_max_call *call, const int8_t *input, int8_t *output, void *sums);

#ifdef __cplusplus
}
#endif

#endif
