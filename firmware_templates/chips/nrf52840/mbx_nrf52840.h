/* Registers of the nRF52840 that the boards use. Source: nRF52840 Product Specification v1.7 (4413_417); the section of
 * each peripheral is named with it, and its page, below https://docs.nordicsemi.com/bundle/ps_nrf52840/page/, where a
 * register is, say, pdm.html#register.PDMCLKCTRL. Its base address: section 4.2.4, Instantiation, memory.html. */
#ifndef MBX_NRF52840_H
#define MBX_NRF52840_H

#include "mbx_cortexm.h"

/* Section 5.4, CLOCK: clock.html */
#define CLOCK_TASKS_HFCLKSTART MBX_REGISTER(0x40000000u)
#define CLOCK_EVENTS_HFCLKSTARTED MBX_REGISTER(0x40000100u)

/* Section 4.4, FICR: ficr.html. These two words have no name there: Nordic's start-up code reads chip and revision from
 * them (nrf52_configuration_249() of its MDK). */
#define FICR_CHIP MBX_REGISTER(0x10000130u)
#define FICR_CHIP_NRF52840 8u
#define FICR_REVISION MBX_REGISTER(0x10000134u)
#define FICR_REVISION_3 3u

/* Section 4.5, UICR: uicr.html */
#define UICR_APPROTECT MBX_REGISTER(0x10001208u)

/* Section 4.8.2, access port protection: approtect.html; its registers are those of the MDK's nrf52840.h */
#define APPROTECT_DISABLE MBX_REGISTER(0x40000558u)

/* Section 4.3, NVMC: nvmc.html */
#define NVMC_ICACHECNF MBX_REGISTER(0x4001E540u)
#define NVMC_ICACHECNF_CACHEEN 1u

/* Section 6.9, GPIO: gpio.html. A pin is 32 * port + number, as in PSEL. */
#define GPIO_PORT(pin) (0x50000000u + 0x300u * ((pin) >> 5))
#define GPIO_BIT(pin) (1u << ((pin)&31u))
#define GPIO_OUTSET(pin) MBX_REGISTER(GPIO_PORT(pin) + 0x508u)
#define GPIO_OUTCLR(pin) MBX_REGISTER(GPIO_PORT(pin) + 0x50Cu)
#define GPIO_DIRSET(pin) MBX_REGISTER(GPIO_PORT(pin) + 0x518u)
#define GPIO_DIRCLR(pin) MBX_REGISTER(GPIO_PORT(pin) + 0x51Cu)
#define GPIO_PIN_CNF(pin) MBX_REGISTER(GPIO_PORT(pin) + 0x700u + 4u * ((pin)&31u))
#define GPIO_PIN_CNF_INPUT 0x0u          /* DIR input, INPUT connected */
#define GPIO_PIN_CNF_INPUT_PULLUP 0xCu   /* and PULL up */
#define GPIO_PIN_CNF_OUTPUT 0x3u         /* DIR output, INPUT disconnected */

/* Section 6.15, PDM: pdm.html */
#define PDM_TASKS_START MBX_REGISTER(0x4001D000u)
#define PDM_EVENTS_STARTED MBX_REGISTER(0x4001D100u)
#define PDM_INTENSET MBX_REGISTER(0x4001D304u)
#define PDM_INT_STARTED (1u << 0)
#define PDM_ENABLE MBX_REGISTER(0x4001D500u)
#define PDM_PDMCLKCTRL MBX_REGISTER(0x4001D504u)
#define PDM_PDMCLKCTRL_1280K 0x0A000000u /* 32 MHz / 25 */
#define PDM_MODE MBX_REGISTER(0x4001D508u)
#define PDM_MODE_MONO_LEFT_FALLING 0x1u  /* OPERATION mono, EDGE left on the falling edge */
#define PDM_MODE_MONO_LEFT_RISING 0x3u   /* and on the rising: the bits of a microphone on the right channel */
#define PDM_GAINL MBX_REGISTER(0x4001D518u)
#define PDM_GAINR MBX_REGISTER(0x4001D51Cu)
#define PDM_GAIN_0_DB 0x28u              /* half a dB a step, to 0x50: +20 dB */
#define PDM_RATIO MBX_REGISTER(0x4001D520u)
#define PDM_RATIO_80 1u                  /* 1.28 MHz / 80 = 16 kHz */
#define PDM_PSEL_CLK MBX_REGISTER(0x4001D540u)
#define PDM_PSEL_DIN MBX_REGISTER(0x4001D544u)
#define PDM_SAMPLE_PTR MBX_REGISTER(0x4001D560u)
#define PDM_SAMPLE_MAXCNT MBX_REGISTER(0x4001D564u) /* samples */
#define PDM_INTERRUPT 29u                /* the peripheral's ID: its base address, bits 12 to 17 */

/* Section 6.33, UART: uart.html */
#define UART_TASKS_STARTRX MBX_REGISTER(0x40002000u)
#define UART_TASKS_STARTTX MBX_REGISTER(0x40002008u)
#define UART_TASKS_STOPRX MBX_REGISTER(0x40002004u)
#define UART_TASKS_STOPTX MBX_REGISTER(0x4000200Cu)
#define UART_EVENTS_RXDRDY MBX_REGISTER(0x40002108u)
#define UART_EVENTS_TXDRDY MBX_REGISTER(0x4000211Cu)
#define UART_EVENTS_ERROR MBX_REGISTER(0x40002124u)
#define UART_EVENTS_RXTO MBX_REGISTER(0x40002144u)
#define UARTE_EVENTS_TXSTOPPED MBX_REGISTER(0x40002158u) /* section 6.34, UARTE: the same port with a DMA */
#define UART_INTENCLR MBX_REGISTER(0x40002308u)
#define UART_INTENSET MBX_REGISTER(0x40002304u)
#define UART_INT_RXDRDY (1u << 2)
#define UART_INT_TXDRDY (1u << 7)
#define UART_INT_ERROR (1u << 9)
#define UART_ERRORSRC MBX_REGISTER(0x40002480u)
#define UART_ENABLE MBX_REGISTER(0x40002500u)
#define UART_ENABLE_ENABLED 4u
#define UARTE_ENABLE_ENABLED 8u
#define UART_PSEL_RTS MBX_REGISTER(0x40002508u)
#define UART_PSEL_TXD MBX_REGISTER(0x4000250Cu)
#define UART_PSEL_CTS MBX_REGISTER(0x40002510u)
#define UART_PSEL_RXD MBX_REGISTER(0x40002514u)
#define UART_PSEL_DISCONNECTED 0xFFFFFFFFu
#define UART_RXD MBX_REGISTER(0x40002518u)
#define UART_TXD MBX_REGISTER(0x4000251Cu)
#define UART_BAUDRATE MBX_REGISTER(0x40002524u)
#define UART_BAUDRATE_1M 0x10000000u /* 16 MHz / 16: the one fast rate that the chip has exactly */
#define UART_CONFIG MBX_REGISTER(0x4000256Cu)
#define UART_CONFIG_8N1 0u
#define UART_INTERRUPT 2u

#endif
