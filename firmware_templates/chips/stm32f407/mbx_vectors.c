/* Vector table of the STM32F407: 16 of the core, 82 of the chip.
 * Source: RM0090 Rev 21, section 12.2, table 62 (STM32F405xx/07xx and STM32F415xx/17xx), pages 375 to 378: positions 0
 * (WWDG) to 81 (FPU). */
#include "mbx_stm32f407.h"

#define INTERRUPTS 82u

void mbx_interrupt_uart(void);
void mbx_interrupt_dma(void);

extern const mbx_vector mbx_vectors[MBX_SYSTEM_VECTORS + INTERRUPTS];

#define F {.handler = mbx_fault}

__attribute__((section(".vectors"), used)) const mbx_vector mbx_vectors[MBX_SYSTEM_VECTORS + INTERRUPTS] = {
    MBX_SYSTEM_VECTOR_LIST,
    F, F, F, F, F, F, F, F, F, F, /* 0 to 9 */
    F, F, F, F, {.handler = mbx_interrupt_dma}, F, F, F, F, F, /* 10 to 19; 14: DMA1_Stream3 */
    F, F, F, F, F, F, F, F, F, F, /* 20 to 29 */
    F, F, F, F, F, F, F, F, {.handler = mbx_interrupt_uart}, F, /* 30 to 39; 38: USART2 */
    F, F, F, F, F, F, F, F, F, F, /* 40 to 49 */
    F, F, F, F, F, F, F, F, F, F, /* 50 to 59 */
    F, F, F, F, F, F, F, F, F, F, /* 60 to 69 */
    F, F, F, F, F, F, F, F, F, F, /* 70 to 79 */
    F, F, /* 80 and 81 */
};
