#include "kws.h"

enum { INPUT_OFFSET = BKNN_PEER_ARENA_SIZE, OUTPUT_OFFSET = BKNN_PEER_ARENA_SIZE + BKNN_PEER_INPUT_BYTES };

static void invoke(int8_t *arena, mbx_observer observe, void *context)
{
    (void)observe;
    (void)context;
    bknn_peer_infer((uint8_t *)arena, arena + INPUT_OFFSET, arena + OUTPUT_OFFSET);
}

const mbx_network kws_network = {
    .input_bytes = BKNN_PEER_INPUT_BYTES,
    .output_bytes = BKNN_PEER_OUTPUT_BYTES,
    .input_offset = INPUT_OFFSET,
    .output_offset = OUTPUT_OFFSET,
    .invoke = invoke,
};
