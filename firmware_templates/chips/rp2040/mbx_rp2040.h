/* Registers of the RP2040 that the boards use. Source: RP2040 Datasheet. The section of each block is named with it, and
 * the place in the file at which the page of its registers opens, whatever the edition: say,
 * https://datasheets.raspberrypi.com/rp2040/rp2040-datasheet.pdf#tab-registerlist_resets */
#ifndef MBX_RP2040_H
#define MBX_RP2040_H

#include "mbx_cortexm.h"

/* Section 2.1.2: a peripheral's registers again, where a write sets or clears the bits that are written as 1 */
#define RP2040_SET 0x2000u
#define RP2040_CLEAR 0x3000u

/* Section 2.14.3, RESETS: #tab-registerlist_resets */
#define RESETS_RESET 0x4000C000u
#define RESETS_RESET_DONE MBX_REGISTER(0x4000C008u)
#define RESETS_DMA (1u << 2)
#define RESETS_IO_BANK0 (1u << 5)
#define RESETS_PADS_BANK0 (1u << 8)
#define RESETS_PIO0 (1u << 10)
#define RESETS_PLL_SYS (1u << 12)
#define RESETS_UART0 (1u << 22)

/* Section 2.16.7, XOSC: #tab-registerlist_xosc */
#define XOSC_CTRL MBX_REGISTER(0x40024000u)
#define XOSC_CTRL_ENABLE_1_15MHZ ((0xFABu << 12) | 0xAA0u)
#define XOSC_STATUS MBX_REGISTER(0x40024004u)
#define XOSC_STATUS_STABLE (1u << 31)
#define XOSC_STARTUP MBX_REGISTER(0x4002400Cu) /* in units of 256 cycles */

/* Section 2.18.4, PLL: #tab-registerlist_pll */
#define PLL_SYS_CS MBX_REGISTER(0x40028000u)
#define PLL_CS_LOCK (1u << 31)
#define PLL_SYS_PWR 0x40028004u
#define PLL_PWR_PD (1u << 0)
#define PLL_PWR_POSTDIVPD (1u << 3)
#define PLL_PWR_VCOPD (1u << 5)
#define PLL_SYS_FBDIV_INT MBX_REGISTER(0x40028008u)
#define PLL_SYS_PRIM MBX_REGISTER(0x4002800Cu)
#define PLL_PRIM(first, second) (((first) << 16) | ((second) << 12))

/* Section 2.15.7, CLOCKS: #tab-registerlist_clocks */
#define CLOCKS_CLK_REF_CTRL MBX_REGISTER(0x40008030u)
#define CLOCKS_CLK_REF_XOSC 2u
#define CLOCKS_CLK_REF_SELECTED MBX_REGISTER(0x40008038u)
#define CLOCKS_CLK_SYS_CTRL MBX_REGISTER(0x4000803Cu)
#define CLOCKS_CLK_SYS_REF 0u
#define CLOCKS_CLK_SYS_AUX 1u /* whose source, bits 5 to 7, is the PLL where they are 0 */
#define CLOCKS_CLK_SYS_SELECTED MBX_REGISTER(0x40008044u)
#define CLOCKS_CLK_PERI_CTRL MBX_REGISTER(0x40008048u)
#define CLOCKS_CLK_PERI_ENABLE (1u << 11) /* from clk_sys, where bits 5 to 7 are 0 */

/* Section 2.19.6.1, IO_BANK0: #tab-registerlist_io_bank0; the functions: section 2.19.2 */
#define IO_BANK0_CTRL(pin) MBX_REGISTER(0x40014004u + 8u * (pin))
#define GPIO_FUNCTION_UART 2u
#define GPIO_FUNCTION_SIO 5u
#define GPIO_FUNCTION_PIO0 6u

/* Section 2.19.6.3, PADS_BANK0: #tab-registerlist_pads_bank0 */
#define PADS_BANK0(pin) MBX_REGISTER(0x4001C004u + 4u * (pin))
#define PADS_INPUT_PULLUP 0x4Au /* IE, PUE, SCHMITT */

/* Section 2.3.1.7, SIO: #tab-registerlist_sio */
#define SIO_GPIO_OUT_SET MBX_REGISTER(0xD0000014u)
#define SIO_GPIO_OUT_CLR MBX_REGISTER(0xD0000018u)
#define SIO_GPIO_OE_SET MBX_REGISTER(0xD0000024u)

/* Section 4.2.8, UART (Arm PL011): #tab-registerlist_uart */
#define UART0_DR MBX_REGISTER(0x40034000u)
#define UART0_FR MBX_REGISTER(0x40034018u)
#define UART_FR_RXFE (1u << 4)
#define UART_FR_TXFF (1u << 5)
#define UART0_IBRD MBX_REGISTER(0x40034024u)
#define UART0_FBRD MBX_REGISTER(0x40034028u)
#define UART0_LCR_H MBX_REGISTER(0x4003402Cu)
#define UART_LCR_H_8_BITS_FIFO 0x70u
#define UART0_CR MBX_REGISTER(0x40034030u)
#define UART_CR_ENABLE_RX_TX 0x301u
#define UART0_IMSC MBX_REGISTER(0x40034038u)
#define UART_INT_RX (1u << 4)
#define UART_INT_TX (1u << 5)
#define UART_INT_RX_TIMEOUT (1u << 6)
#define UART0_ICR MBX_REGISTER(0x40034044u)
#define UART0_INTERRUPT 20u /* section 2.3.2, as those below */

/* Section 3.7, PIO: #tab-registerlist_pio */
#define PIO0_CTRL MBX_REGISTER(0x50200000u)
#define PIO0_RXF0 0x50200020u
#define PIO0_INSTR_MEM(place) MBX_REGISTER(0x50200048u + 4u * (place))
#define PIO0_SM0_CLKDIV MBX_REGISTER(0x502000C8u)
#define PIO0_SM0_EXECCTRL MBX_REGISTER(0x502000CCu)
#define PIO0_SM0_SHIFTCTRL MBX_REGISTER(0x502000D0u)
#define PIO0_SM0_INSTR MBX_REGISTER(0x502000D8u)
#define PIO0_SM0_PINCTRL MBX_REGISTER(0x502000DCu)
#define PIO_EXECCTRL_WRAP(top, bottom) (((top) << 12) | ((bottom) << 7))
#define PIO_SHIFTCTRL_FJOIN_RX (1u << 31)
#define PIO_SHIFTCTRL_PUSH_THRESHOLD(bits) ((bits) << 20)
#define PIO_SHIFTCTRL_AUTOPUSH (1u << 16)

/* Section 2.5.7, DMA: #tab-registerlist_dma */
#define DMA_WRITE_ADDR(channel) MBX_REGISTER(0x50000004u + 0x40u * (channel))
#define DMA_READ_ADDR(channel) MBX_REGISTER(0x50000000u + 0x40u * (channel))
#define DMA_TRANS_COUNT(channel) MBX_REGISTER(0x50000008u + 0x40u * (channel))
#define DMA_CTRL_TRIG(channel) MBX_REGISTER(0x5000000Cu + 0x40u * (channel))
#define DMA_AL1_CTRL(channel) MBX_REGISTER(0x50000010u + 0x40u * (channel)) /* the same, without starting it */
#define DMA_CTRL_EN (1u << 0)
#define DMA_CTRL_HALFWORDS (1u << 2)
#define DMA_CTRL_INCR_WRITE (1u << 5)
#define DMA_CTRL_WRITE_RING(bits) (((bits) << 6) | (1u << 10))
#define DMA_CTRL_CHAIN_TO(channel) ((channel) << 11)
#define DMA_CTRL_TREQ_PIO0_RX0 (4u << 15)
#define DMA_CTRL_BUSY (1u << 24)
#define DMA_INTE0 MBX_REGISTER(0x50000404u)
#define DMA_INTS0 MBX_REGISTER(0x5000040Cu)
#define DMA_INTERRUPT 11u /* DMA_IRQ_0 */

#endif
