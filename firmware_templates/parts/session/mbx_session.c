#include "mbx_session.h"

#define FIRST_STAGE_OF_LAYERS 6 /* MBX_STAGE_FEATURES of mbx_frontend.h; below it the stages of the front end */

int mbx_session_record(uint32_t kind, const void *data, uint32_t bytes)
{
    const uint32_t header[2] = {kind, bytes};
    return mbx_session_write(header, sizeof header) && mbx_session_write(data, bytes);
}

void mbx_session_observe(void *context, int stage, const void *data, uint32_t bytes)
{
    mbx_session *session = context;
    const int wanted = stage >= FIRST_STAGE_OF_LAYERS ? MBX_TRACE_LAYERS : MBX_TRACE_STAGES;
    if (session->trace_level >= (uint32_t)wanted && !mbx_session_record((uint32_t)stage, data, bytes)) {
        session->broken = 1;
    }
}

int mbx_session_read_padding(uint32_t count)
{
    uint8_t padding[4];
    return mbx_session_read(padding, (0u - count) & 3u);
}

int mbx_session_serve(void *model)
{
    mbx_session session = {0, 0, 0};
    uint32_t head[3]; /* magic, trace level, items */
    if (!mbx_session_read(head, sizeof head) || head[0] != MBX_SESSION_MAGIC) {
        return 1;
    }
    session.trace_level = head[1];
    for (uint32_t i = 0; i < head[2] && !session.broken; i++) {
        uint32_t item[3]; /* kind, samples in a block, values */
        if (!mbx_session_read(item, sizeof item) || item[1] == 0u || item[1] > MBX_SESSION_BLOCK_SAMPLES) {
            return 1;
        }
        const uint32_t status = (uint32_t)mbx_session_item(model, &session, item[0], item[1], item[2]);
        if (!session.broken && !mbx_session_record(MBX_RECORD_END, &status, sizeof status)) {
            session.broken = 1;
        }
    }
    return session.broken;
}
