/* Vector table of the nRF52840: 16 of the core, 48 of the chip. An interrupt's number is its peripheral's ID.
 * Source: nRF52840 Product Specification v1.7, section 4.2.4, Instantiation (memory.html): IDs 0 (CLOCK) to 47 (SPIM3). */
#include "mbx_nrf52840.h"

#define INTERRUPTS 48u

void mbx_interrupt_uart(void);
void mbx_interrupt_pdm(void);

extern const mbx_vector mbx_vectors[MBX_SYSTEM_VECTORS + INTERRUPTS];

#define F {.handler = mbx_fault}

__attribute__((section(".vectors"), used)) const mbx_vector mbx_vectors[MBX_SYSTEM_VECTORS + INTERRUPTS] = {
    MBX_SYSTEM_VECTOR_LIST,
    F, F, {.handler = mbx_interrupt_uart}, F, F, F, F, F, /* 0 to 7; 2: UART0 */
    F, F, F, F, F, F, F, F, /* 8 to 15 */
    F, F, F, F, F, F, F, F, /* 16 to 23 */
    F, F, F, F, F, {.handler = mbx_interrupt_pdm}, F, F, /* 24 to 31; 29: PDM */
    F, F, F, F, F, F, F, F, /* 32 to 39 */
    F, F, F, F, F, F, F, F, /* 40 to 47 */
};
