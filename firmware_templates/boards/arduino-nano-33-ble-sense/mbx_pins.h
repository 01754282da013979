/* Pins of the Arduino Nano 33 BLE Sense. Source: Arduino, schematic NANO33BLE_V2.0 (ABX00031), and its pinout.
 * A pin is 32 * port + number. */
#ifndef MBX_PINS_H
#define MBX_PINS_H

#define MBX_PIN_LIGHT 13u              /* P0.13, LED_BUILTIN */
#define MBX_PIN_LIGHT_ON_LEVEL 1

#define MBX_PIN_UART_TX 35u            /* P1.03, marked TX */
#define MBX_PIN_UART_RX 42u            /* P1.10, marked RX */

#define MBX_PIN_PDM_CLK 26u            /* P0.26 */
#define MBX_PIN_PDM_DIN 25u            /* P0.25 */
#define MBX_PIN_MICROPHONE_POWER 17u   /* P0.17 feeds the microphone */

#define MBX_MICROPHONE_GAIN_Q4 160     /* 20 dB */

#endif
