/* The two rings of a serial port, for boards whose interrupts move a byte at a time. */
#ifndef MBX_SERIAL_H
#define MBX_SERIAL_H

#include "mbx_byte_ring.h"

/* Powers of two. What is sent may wait for the port while a block of audio goes out, what arrives while the network runs. */
#ifndef MBX_SERIAL_TX_BYTES
#define MBX_SERIAL_TX_BYTES 8192u
#endif
#ifndef MBX_SERIAL_RX_BYTES
#define MBX_SERIAL_RX_BYTES 4096u
#endif

extern mbx_byte_ring mbx_serial_tx;
extern mbx_byte_ring mbx_serial_rx;
extern volatile uint32_t mbx_serial_lost_bytes; /* that arrived and found no room */

/* The board's: starts sending where the port is idle. Called with interrupts masked. */
void mbx_serial_kick(void);

/* For the board's interrupt: a byte has arrived. */
void mbx_serial_received(uint8_t byte);

#endif
