/* mbx_stream_mean() on a core: the outputs of each step of a request, for test_stream_mean_cores.py. */
#include "mbx_session.h"
#include "mbx_stream.h"

int main(void)
{
    static int16_t sums[4096];
    static int8_t input[4096], output[64];
    uint32_t head[4]; /* positions, blocks, channels, steps */
    if (!mbx_session_read(head, sizeof head)) {
        return 1;
    }
    const mbx_stream_mean_call call = {
        .mean = {.rows = 1,
                 .positions = (uint16_t)(head[0] * head[1]),
                 .channels = (uint16_t)head[2],
                 .input_zero_point = -128,
                 .output_zero_point = -128,
                 .multiplier = 1431655765,
                 .shift = -6},
        .positions = (uint16_t)head[0],
        .blocks = (uint16_t)head[1],
    };
    for (uint32_t step = 0; step < head[3]; step++) {
        if (!mbx_session_read(input, head[0] * head[2])) {
            return 1;
        }
        mbx_stream_mean(&call, input, output, sums);
        if (!mbx_session_write(output, head[2])) {
            return 1;
        }
    }
    return 0;
}
