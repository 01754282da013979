#include "mbx_session_network.h"

#include "mbx_session.h"

mbx_status mbx_session_item(void *model, mbx_session *session, uint32_t kind, uint32_t block, uint32_t count)
{
    const mbx_session_network *served = model;
    const mbx_network *network = served->network;
    (void)block;
    if (kind != MBX_ITEM_FEATURES || count != network->input_bytes ||
        !mbx_session_read_features(mbx_network_input(network, served->arena), count)) {
        session->broken = 1;
        return MBX_ERROR_ARGUMENT;
    }
    const mbx_observer observe = session->trace_level >= MBX_TRACE_LAYERS ? mbx_session_observe : NULL;
    const int8_t *output = mbx_network_observe(network, served->arena, observe, session);
    if (!session->broken && !mbx_session_record(MBX_RECORD_RESULT, output, network->output_bytes)) {
        session->broken = 1;
    }
    return MBX_OK;
}
