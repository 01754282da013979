/* The serial port of Arm's MPS2 and MPS3 boards as QEMU emulates them. There is no microphone: the host sends what is
 * heard. Bytes are polled for; the interrupt, which is masked, only wakes the core, since one that never sleeps leaves the
 * emulator's other thread no time to bring bytes. Source: Arm Cortex-M System Design Kit TRM (DDI 0479), section 4.3, APB UART; its address: the memory map of
 * the application notes AN385, AN386, AN500; AN505 and AN547 through the secure alias. */
#include "mbx_board.h"

#if defined(__ARM_FEATURE_MVE)
#define UART_BASE 0x59303000u /* AN547 */
#define UART_RX_INTERRUPT 33u
#elif defined(__ARM_ARCH_8M_MAIN__)
#define UART_BASE 0x50200000u /* AN505 */
#define UART_RX_INTERRUPT 32u
#else
#define UART_BASE 0x40004000u
#define UART_RX_INTERRUPT 0u
#endif

#define UART_REGISTER(offset) (*(volatile uint32_t *)(UART_BASE + (offset)))
#define UART_DATA UART_REGISTER(0x00u)
#define UART_STATE UART_REGISTER(0x04u)
#define UART_STATE_TX_FULL 1u
#define UART_STATE_RX_FULL 2u
#define UART_CTRL UART_REGISTER(0x08u)
#define UART_CTRL_TX_RX_AND_RX_INTERRUPT 0xBu
#define UART_INTERRUPTS UART_REGISTER(0x0Cu)
#define UART_INTERRUPT_RX 2u
#define UART_BAUDDIV UART_REGISTER(0x10u)
#define UART_LEAST_DIVISOR 16u

/* Armv7-M Architecture Reference Manual (DDI 0403E), B3.4.3 */
#define NVIC_REGISTER(offset) (*(volatile uint32_t *)(0xE000E000u + (offset) + 4u * (UART_RX_INTERRUPT >> 5)))
#define NVIC_ISER NVIC_REGISTER(0x100u)
#define NVIC_ICPR NVIC_REGISTER(0x280u)

void mbx_board_init(void)
{
    UART_BAUDDIV = UART_LEAST_DIVISOR; /* an emulated line has no speed */
    UART_CTRL = UART_CTRL_TX_RX_AND_RX_INTERRUPT;
    __asm volatile("cpsid i" ::: "memory");
    NVIC_ISER = 1u << (UART_RX_INTERRUPT & 31u);
}

void mbx_board_audio_start(mbx_audio_queue *queue)
{
    (void)queue; /* mbx_link.c fills it with what the host sends */
}

void mbx_board_light(int on)
{
    (void)on;
}

uint32_t mbx_board_uart_write(const uint8_t *data, uint32_t size)
{
    uint32_t taken = 0;
    while (taken < size && (UART_STATE & UART_STATE_TX_FULL) == 0u) {
        UART_DATA = data[taken++];
    }
    return taken;
}

uint32_t mbx_board_uart_read(uint8_t *data, uint32_t size)
{
    uint32_t copied = 0;
    while (copied < size && (UART_STATE & UART_STATE_RX_FULL) != 0u) {
        data[copied++] = (uint8_t)UART_DATA;
    }
    return copied;
}

void mbx_board_wait(void)
{
    if ((UART_STATE & UART_STATE_RX_FULL) == 0u) {
        __asm volatile("wfi" ::: "memory"); /* a pending interrupt ends it, masked or not: DDI 0403E B1.5.19 */
        UART_INTERRUPTS = UART_INTERRUPT_RX;
        NVIC_ICPR = 1u << (UART_RX_INTERRUPT & 31u);
    }
}
