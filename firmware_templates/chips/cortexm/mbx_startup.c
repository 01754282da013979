/* From reset to main(), for every Cortex-M board. The chip's folder has the vector table. */
#include "mbx_board.h"
#include "mbx_cortexm.h"

extern uint32_t mbx_data_load[];
extern uint32_t mbx_data_start[];
extern uint32_t mbx_data_end[];
extern uint32_t mbx_bss_start[];
extern uint32_t mbx_bss_end[];
extern const mbx_vector mbx_vectors[];

int main(void);

#define VTOR MBX_REGISTER(0xE000ED08u)  /* DDI 0403E B3.2.5; the Cortex-M0+ of the RP2040 has it, too */
#define CPACR MBX_REGISTER(0xE000ED88u) /* DDI 0403E B3.2.20 */
#define SYST_CSR MBX_REGISTER(0xE000E010u) /* DDI 0403E B3.3.3 */
#define ICSR MBX_REGISTER(0xE000ED04u)     /* DDI 0403E B3.2.4 */
#define ICSR_PENDSVCLR_PENDSTCLR ((1u << 27) | (1u << 25))
#define MPU_CTRL MBX_REGISTER(0xE000ED94u) /* DDI 0403E B3.5.5 */
#if __ARM_ARCH == 6
#define NVIC_WORDS 1u                   /* of 32 interrupts */
#else
#define NVIC_WORDS 8u                   /* words of interrupts that a chip lacks ignore writes */
#endif

/* Blinks for ever, evenly and fast: something is wrong that no message could tell any more. */
void mbx_fault(void)
{
    mbx_mask_interrupts();
    for (int on = 1;; on = !on) {
        mbx_board_light(on);
        for (volatile uint32_t wait = 0; wait < 1000000u; wait++) {
        }
    }
}

void mbx_reset(void)
{
    /* A bootloader may have left interrupts on, with handlers of its own, its timer, and a memory protection that forbids
     * what it did not need: Arduino's on the nRF52840 does. */
    mbx_mask_interrupts();
    SYST_CSR = 0;
    ICSR = ICSR_PENDSVCLR_PENDSTCLR;
    MPU_CTRL = 0;
    for (uint32_t i = 0; i < NVIC_WORDS; i++) {
        MBX_NVIC_ICER(i) = UINT32_MAX;
        MBX_NVIC_ICPR(i) = UINT32_MAX;
    }
    VTOR = (uint32_t)(uintptr_t)mbx_vectors;
#if defined(__ARM_FP)
    CPACR |= 0xFu << 20; /* before the first floating-point instruction, which gcc may use to move words */
    __asm volatile("dsb\n isb" ::: "memory");
#endif
    mbx_board_clock();
    /* Volatile, or gcc makes a call of memcpy of it: that may lie in what is copied, on a board that runs from RAM. */
    const uint32_t *from = mbx_data_load;
    for (volatile uint32_t *to = mbx_data_start; to != mbx_data_end; to++) {
        *to = *from++;
    }
    for (volatile uint32_t *to = mbx_bss_start; to != mbx_bss_end; to++) {
        *to = 0;
    }
    __asm volatile("dsb\n isb" ::: "memory"); /* what was copied may be code */
    mbx_board_init();
    mbx_unmask_interrupts();
    (void)main();
    mbx_fault(); /* main() of a board does not return */
}

void mbx_board_wait(void)
{
    __asm volatile("wfi");
}
