/* Pins of the Arduino Nano RP2040 Connect. Source: Arduino, schematic and pinout of the ABX00053. A pin is its GPIO number. */
#ifndef MBX_PINS_H
#define MBX_PINS_H

#define MBX_PIN_LIGHT 6u               /* LED_BUILTIN, D13 */

#define MBX_PIN_UART_TX 0u             /* UART0, marked TX */
#define MBX_PIN_UART_RX 1u             /* marked RX */
#define MBX_UART_BAUD 1000000u         /* 128 MHz / 16 / 8, exactly */

#define MBX_PIN_PDM_CLK 23u            /* of the MP34DT06J on the board */
#define MBX_PIN_PDM_DIN 22u

#define MBX_MICROPHONE_GAIN_Q4 160     /* 20 dB */

#endif
