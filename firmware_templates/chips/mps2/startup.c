/* Vectors and start-up for a Cortex-M under QEMU. A fault prints its status registers and ends the run with exit code 99. */
#include <stdint.h>

#include "semihosting.h"

extern uint32_t mbx_stack_top[];
extern uint32_t mbx_data_load[];
extern uint32_t mbx_data_start[];
extern uint32_t mbx_data_end[];
extern uint32_t mbx_bss_start[];
extern uint32_t mbx_bss_end[];

int main(void);
void mbx_reset(void);
void mbx_fault(void);

/* Armv7-M Architecture Reference Manual, B3.2: system control block. Armv6-M has no CFSR and no HFSR. */
#define HAS_FAULT_STATUS (__ARM_ARCH_ISA_THUMB >= 2)
#define CPACR (*(volatile uint32_t *)0xE000ED88u)
#define CFSR (*(volatile uint32_t *)0xE000ED28u)
#define HFSR (*(volatile uint32_t *)0xE000ED2Cu)

#define FAULT_EXIT_CODE 99u

#if HAS_FAULT_STATUS
static void write_hex(uint32_t value)
{
    char text[10];
    for (int i = 7; i >= 0; i--) {
        text[i] = "0123456789abcdef"[value & 15u];
        value >>= 4;
    }
    text[8] = ' ';
    text[9] = '\0';
    semihosting_write_text(text);
}
#endif

#define SEMIHOSTING_INSTRUCTION 0xBEABu /* bkpt 0xab */

enum { STACKED_R0 = 0, STACKED_PC = 6 };

void mbx_fault_at(uint32_t *stacked);

/* The fault may be the first semihosting call, where nobody serves those: it returns -1 then, and later ones are not made. */
void mbx_fault_at(uint32_t *stacked)
{
    const uint16_t *at = (const uint16_t *)(uintptr_t)stacked[STACKED_PC];
    if (!semihosting_is_missing && *at == SEMIHOSTING_INSTRUCTION) {
        semihosting_is_missing = 1;
        stacked[STACKED_R0] = UINT32_MAX;
        stacked[STACKED_PC] += 2u;
        return;
    }
    semihosting_write_text("mbx: fault");
#if HAS_FAULT_STATUS
    semihosting_write_text(", CFSR HFSR: ");
    write_hex(CFSR);
    write_hex(HFSR);
#endif
    semihosting_write_text("\n");
    semihosting_exit(FAULT_EXIT_CODE);
}

/* r0: what the exception stacked; lr stays what it was, so that mbx_fault_at() returns from the exception. */
__attribute__((naked)) void mbx_fault(void)
{
    __asm volatile("mrs r0, msp\n"
                   "ldr r1, =mbx_fault_at\n"
                   "bx r1\n");
}

void mbx_reset(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    CPACR |= 0xFu << 20; /* before the first floating-point instruction, which gcc may use to move words */
    __asm volatile("dsb\n isb" ::: "memory");
#endif
    const uint32_t *from = mbx_data_load;
    for (uint32_t *to = mbx_data_start; to != mbx_data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = mbx_bss_start; to != mbx_bss_end; to++) {
        *to = 0;
    }
    semihosting_exit((uint32_t)main());
}

typedef union {
    void *stack;
    void (*handler)(void);
} mbx_vector;

extern const mbx_vector mbx_vectors[16];

__attribute__((section(".vectors"), used)) const mbx_vector mbx_vectors[16] = {
    {.stack = mbx_stack_top},
    {.handler = mbx_reset},
    {.handler = mbx_fault}, /* NMI */
    {.handler = mbx_fault}, /* HardFault */
    {.handler = mbx_fault}, /* MemManage */
    {.handler = mbx_fault}, /* BusFault */
    {.handler = mbx_fault}, /* UsageFault */
    {.handler = mbx_fault}, /* SecureFault */
    {.stack = 0},
    {.stack = 0},
    {.stack = 0},
    {.handler = mbx_fault}, /* SVCall */
    {.handler = mbx_fault}, /* DebugMonitor */
    {.stack = 0},
    {.handler = mbx_fault}, /* PendSV */
    {.handler = mbx_fault}, /* SysTick */
};
