/* No network: what the program that serves one needs by itself. It is linked, never run. */
#ifndef KWS_H
#define KWS_H

#include "mbx_network.h"

typedef struct {
    uint64_t arena[1];
} kws_t;

extern const mbx_network kws_network;

#endif
