/* The light, on for a time that the microphone's interrupt counts: the main loop may be inside the network when it ends. */
#ifndef MBX_LIGHT_H
#define MBX_LIGHT_H

#include <stdint.h>

/* The main loop's: turns the light on for as long as count samples take to arrive. */
void mbx_light_for(uint32_t count);

/* The interrupt's: count samples have arrived, lost ones included. */
void mbx_light_pass(uint32_t count);

#endif
