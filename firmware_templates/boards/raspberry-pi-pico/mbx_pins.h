/* Pins of the Raspberry Pi Pico, and where a PDM microphone is wired to it. Source: Raspberry Pi Pico Datasheet, its pinout.
 * A pin is its GPIO number. */
#ifndef MBX_PINS_H
#define MBX_PINS_H

#define MBX_PIN_LIGHT 25u

#define MBX_PIN_UART_TX 0u             /* UART0, pin 1 of the board */
#define MBX_PIN_UART_RX 1u             /* pin 2 */
#define MBX_UART_BAUD 1000000u         /* 128 MHz / 16 / 8, exactly */

#define MBX_PIN_PDM_CLK 2u             /* pin 4 */
#define MBX_PIN_PDM_DIN 3u             /* pin 5 */

#define MBX_MICROPHONE_GAIN_Q4 160     /* 20 dB */

#endif
