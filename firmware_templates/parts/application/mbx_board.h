/* What an application needs of a board: clock and start-up, audio in, bytes in and out, a light.
 *
 * A board is a folder that implements these functions. Its start-up code calls mbx_board_clock() and mbx_board_init() before main(). Its
 * interrupts fill the audio queue and empty the serial port's ring; nothing here waits but mbx_board_wait().
 */
#ifndef MBX_BOARD_H
#define MBX_BOARD_H

#include <stdint.h>

#include "mbx_audio_queue.h"

#define MBX_BOARD_SAMPLE_RATE_HZ 16000u

/* Sets up the light, so that a fault can be told, then the clocks. Start-up code calls it before there are variables:
 * neither they nor other functions than the start-up's own may be used. */
void mbx_board_clock(void);

/* Sets up pins and the serial port (8 data bits, no parity, one stop bit, at the target's uart_baud). */
void mbx_board_init(void);

/* Starts the microphone. From now on an interrupt adds 16-bit mono samples, 16,000 a second, to the queue, a block at a
 * time, and lets the light's time pass; what finds no room is dropped and counted there. */
void mbx_board_audio_start(mbx_audio_queue *queue);

/* Turns the light on (not 0) or off. */
void mbx_board_light(int on);

/* Both return at once. write: how many of size bytes were taken, fewer where the port's ring is full.
 * read: how many bytes, up to size, that had arrived were copied to data. */
uint32_t mbx_board_uart_write(const uint8_t *data, uint32_t size);
uint32_t mbx_board_uart_read(uint8_t *data, uint32_t size);

/* Sleeps until the next interrupt, or returns at once. */
void mbx_board_wait(void);

#endif
