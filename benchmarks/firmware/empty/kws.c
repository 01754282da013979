#include "kws.h"

static void invoke(int8_t *arena, mbx_observer observe, void *context)
{
    (void)arena;
    (void)observe;
    (void)context;
}

const mbx_network kws_network = {.invoke = invoke};
