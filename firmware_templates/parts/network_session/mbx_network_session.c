#include "mbx_session.h"

static int write_record(uint32_t kind, const void *data, uint32_t bytes)
{
    const uint32_t header[2] = {kind, bytes};
    return mbx_session_write(header, sizeof header) && mbx_session_write(data, bytes);
}

static void observe(void *context, int stage, const void *data, uint32_t bytes)
{
    int *broken = context;
    if (!*broken && !write_record((uint32_t)stage, data, bytes)) {
        *broken = 1;
    }
}

int mbx_session_serve(const mbx_network *network, uint64_t *arena)
{
    const uint32_t status = MBX_OK;
    int broken = 0;
    uint32_t head[3]; /* magic, trace level, items */
    if (!mbx_session_read(head, sizeof head) || head[0] != MBX_SESSION_MAGIC) {
        return 1;
    }
    for (uint32_t i = 0; i < head[2] && !broken; i++) {
        uint32_t count;
        uint8_t padding[4];
        if (!mbx_session_read(&count, sizeof count) || count != network->input_bytes ||
            !mbx_session_read(mbx_network_input(network, arena), count) ||
            !mbx_session_read(padding, (0u - count) & 3u)) {
            return 1;
        }
        const int8_t *output =
            mbx_network_observe(network, arena, head[1] >= MBX_TRACE_LAYERS ? observe : NULL, &broken);
        broken = broken || !write_record(MBX_RECORD_RESULT, output, network->output_bytes) ||
                 !write_record(MBX_RECORD_END, &status, sizeof status);
    }
    return broken;
}
