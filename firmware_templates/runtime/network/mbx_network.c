#include "mbx_network.h"

#include <string.h>

const int8_t *mbx_network_observe(const mbx_network *network, uint64_t *arena, mbx_observer observe, void *context)
{
    int8_t *bytes = (int8_t *)arena;
    network->invoke(bytes, observe, context);
    return bytes + network->output_offset;
}

mbx_status mbx_network_run(const mbx_network *network, uint64_t *arena, const int8_t *input, int8_t *output)
{
    if (network == NULL || arena == NULL || input == NULL || output == NULL) {
        return MBX_ERROR_ARGUMENT;
    }
    int8_t *place = mbx_network_input(network, arena);
    if (input != place) { /* it may have been written in place */
        memcpy(place, input, network->input_bytes);
    }
    memcpy(output, mbx_network_observe(network, arena, NULL, NULL), network->output_bytes);
    return MBX_OK;
}

mbx_status mbx_network_reset(const mbx_network *network, uint64_t *arena)
{
    if (network == NULL || arena == NULL) {
        return MBX_ERROR_ARGUMENT;
    }
    if (network->reset != NULL) {
        network->reset((int8_t *)arena);
    }
    return MBX_OK;
}
