/* Pins of the Seeed XIAO nRF52840 Sense. Source: Seeed, its schematic and pinout, and Zephyr's xiao_ble and xiao_ble_sense.
 * A pin is 32 * port + number. */
#ifndef MBX_PINS_H
#define MBX_PINS_H

#define MBX_PIN_LIGHT 30u              /* P0.30, the green of the RGB LED */
#define MBX_PIN_LIGHT_ON_LEVEL 0

#define MBX_PIN_UART_TX 43u            /* P1.11, D6 */
#define MBX_PIN_UART_RX 44u            /* P1.12, D7 */

#define MBX_PIN_PDM_CLK 32u            /* P1.00 */
#define MBX_PIN_PDM_DIN 16u            /* P0.16 */
#define MBX_PIN_MICROPHONE_POWER 42u   /* P1.10 feeds the microphone */
#define MBX_MICROPHONE_RIGHT           /* it speaks while the clock is high */

#define MBX_MICROPHONE_GAIN_Q4 160     /* 20 dB */

#endif
