/* Vector table of the RP2040: 16 of the core, 32 of its interrupt controller, of which the chip uses 26.
 * Source: RP2040 Datasheet, section 2.3.2, Interrupts. */
#include "mbx_rp2040.h"

#define INTERRUPTS 32u

void mbx_interrupt_uart(void);
void mbx_interrupt_dma(void);

extern const mbx_vector mbx_vectors[MBX_SYSTEM_VECTORS + INTERRUPTS];

#define F {.handler = mbx_fault}

__attribute__((section(".vectors"), used)) const mbx_vector mbx_vectors[MBX_SYSTEM_VECTORS + INTERRUPTS] = {
    MBX_SYSTEM_VECTOR_LIST,
    F, F, F, F, F, F, F, F, /* 0 to 7 */
    F, F, F, {.handler = mbx_interrupt_dma}, F, F, F, F, /* 8 to 15; 11: DMA_IRQ_0 */
    F, F, F, F, {.handler = mbx_interrupt_uart}, F, F, F, /* 16 to 23; 20: UART0_IRQ */
    F, F, F, F, F, F, F, F, /* 24 to 31 */
};
