/* What a session serves of a network without a front end. */
#ifndef MBX_SESSION_NETWORK_H
#define MBX_SESSION_NETWORK_H

#include "mbx_network.h"

typedef struct {
    const mbx_network *network;
    uint64_t *arena;
} mbx_session_network;

#endif
