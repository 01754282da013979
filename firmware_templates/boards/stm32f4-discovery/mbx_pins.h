/* Pins of the STM32F4DISCOVERY (MB997). Source: ST, UM1472, section on the audio devices and table of the pins; alternate
 * functions: datasheet of the STM32F407, table 9. A pin is 16 * port + number, port A being 0. */
#ifndef MBX_PINS_H
#define MBX_PINS_H

#define MBX_PIN_LIGHT 60u              /* PD12, LD4, green */

#define MBX_PIN_UART_TX 2u             /* PA2, USART2_TX */
#define MBX_PIN_UART_RX 3u             /* PA3, USART2_RX */
#define MBX_UART_ALTERNATE 7u
#define MBX_UART_BAUD 1000000u         /* 42 MHz / 42, exactly */

#define MBX_PIN_PDM_CLK 26u            /* PB10, I2S2_CK */
#define MBX_PIN_PDM_DIN 35u            /* PC3, I2S2_SD */
#define MBX_PDM_ALTERNATE 5u

#define MBX_MICROPHONE_GAIN_Q4 160     /* 20 dB */

#endif
