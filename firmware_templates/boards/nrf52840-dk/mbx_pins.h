/* Pins of the nRF52840 DK (PCA10056), and where a PDM microphone is wired to it. Source: nRF52840 DK User Guide, the
 * sections on buttons and LEDs and on the virtual COM port. A pin is 32 * port + number. */
#ifndef MBX_PINS_H
#define MBX_PINS_H

#define MBX_PIN_LIGHT 13u              /* P0.13, LED1 */
#define MBX_PIN_LIGHT_ON_LEVEL 0

#define MBX_PIN_UART_TX 6u             /* P0.06, to the interface MCU's virtual COM port */
#define MBX_PIN_UART_RX 8u             /* P0.08 */

#define MBX_PIN_PDM_CLK 35u            /* P1.03, D2 of the Arduino header */
#define MBX_PIN_PDM_DIN 36u            /* P1.04, D3 */

#define MBX_MICROPHONE_GAIN_Q4 160     /* 20 dB */

#endif
