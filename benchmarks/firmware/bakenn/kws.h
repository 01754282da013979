/* bakenn's network behind the interface of ours, so that the same program serves it. */
#ifndef KWS_H
#define KWS_H

#include "bknn_peer.h"
#include "mbx_network.h"

/* bakenn's caller owns input, output and arena. */
typedef struct {
    uint64_t arena[(BKNN_PEER_ARENA_SIZE + BKNN_PEER_INPUT_BYTES + BKNN_PEER_OUTPUT_BYTES + 7u) / 8u];
} __attribute__((aligned(BKNN_PEER_ARENA_ALIGNMENT))) kws_t;

extern const mbx_network kws_network;

#endif
