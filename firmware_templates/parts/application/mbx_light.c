#include "mbx_light.h"

#include "mbx_board.h"

static volatile uint32_t remaining; /* samples */

void mbx_light_for(uint32_t count)
{
    remaining = count; /* first, so that an interrupt in between counts down from it */
    mbx_board_light(1);
}

void mbx_light_pass(uint32_t count)
{
    const uint32_t before = remaining;
    if (before != 0u) {
        remaining = count < before ? before - count : 0u;
        if (count >= before) {
            mbx_board_light(0);
        }
    }
}
