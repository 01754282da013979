#include "mbx_session_network.h"

#include "mbx_session.h"

mbx_status mbx_session_item(void *model, mbx_session *session, uint32_t kind, uint32_t block, uint32_t count)
{
    const mbx_session_network *served = model;
    const mbx_network *network = served->network;
    const mbx_observer observe = session->trace_level >= MBX_TRACE_LAYERS ? mbx_session_observe : NULL;
    const uint32_t runs = count / network->input_bytes;
    (void)block;
    if (kind != MBX_ITEM_FEATURES || count % network->input_bytes != 0u || runs == 0u ||
        (network->reset == NULL && runs != 1u)) {
        session->broken = 1;
        return MBX_ERROR_ARGUMENT;
    }
    const mbx_status status = mbx_network_reset(network, served->arena);
    for (uint32_t run = 0; run < runs && !session->broken; run++) {
        if (!mbx_session_read(mbx_network_input(network, served->arena), network->input_bytes)) {
            session->broken = 1;
            break;
        }
        const int8_t *output = mbx_network_observe(network, served->arena, observe, session);
        session->broken |= !mbx_session_record(MBX_RECORD_RESULT, output, network->output_bytes);
    }
    session->broken |= !mbx_session_read_padding(count);
    return status;
}
