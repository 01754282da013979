/* The Cortex-M's own registers. Armv7-M Architecture Reference Manual (DDI 0403E), Armv6-M (DDI 0419E). */
#ifndef MBX_CORTEXM_H
#define MBX_CORTEXM_H

#include <stdint.h>

#ifndef MBX_REGISTER /* a test may put a model of the chip in its place */
#define MBX_REGISTER(address) (*(volatile uint32_t *)(address))
#endif

typedef union {
    void *stack;
    void (*handler)(void);
} mbx_vector;

#define MBX_SYSTEM_VECTORS 16u /* DDI 0403E B1.5.2, DDI 0419E B1.5.2: initial stack pointer, then exceptions 1 to 15 */

/* The first sixteen of a vector table. Armv6-M has none of MemManage to UsageFault and no DebugMonitor; there those
 * places are never read. */
#define MBX_SYSTEM_VECTOR_LIST                                                                                         \
    {.stack = mbx_stack_top},                                                                                          \
        {.handler = mbx_reset}, {.handler = mbx_fault}, /* NMI */                                                      \
        {.handler = mbx_fault},                         /* HardFault */                                                \
        {.handler = mbx_fault},                         /* MemManage */                                                \
        {.handler = mbx_fault},                         /* BusFault */                                                 \
        {.handler = mbx_fault},                         /* UsageFault */                                               \
        {.stack = 0}, {.stack = 0}, {.stack = 0}, {.stack = 0}, {.handler = mbx_fault}, /* SVCall */                   \
        {.handler = mbx_fault},                                                         /* DebugMonitor */             \
        {.stack = 0}, {.handler = mbx_fault},                                           /* PendSV */                   \
        {.handler = mbx_fault}                                                          /* SysTick */

extern uint32_t mbx_stack_top[];
void mbx_reset(void);
void mbx_fault(void);

/* NVIC: DDI 0403E B3.4.3, DDI 0419E B3.4.2. ISER, ICER and ICPR have a bit an interrupt, 32 a word. */
#define MBX_NVIC_ISER(word) MBX_REGISTER(0xE000E100u + 4u * (word))
#define MBX_NVIC_ICER(word) MBX_REGISTER(0xE000E180u + 4u * (word))
#define MBX_NVIC_ICPR(word) MBX_REGISTER(0xE000E280u + 4u * (word))
#define MBX_NVIC_IPR(word) MBX_REGISTER(0xE000E400u + 4u * (word)) /* Armv6-M reaches the four bytes of a word only together */

/* Two levels: what can't wait for a block of audio to be filtered, and that. Two bits a level, on top, are all that
 * Armv6-M has (DDI 0419E B3.4.7). */
#define MBX_PRIORITY_SERIAL 0x00u
#define MBX_PRIORITY_AUDIO 0x40u

static inline void mbx_enable_interrupt(uint32_t number, uint32_t priority)
{
    const uint32_t shift = 8u * (number & 3u);
    MBX_NVIC_IPR(number >> 2) = (MBX_NVIC_IPR(number >> 2) & ~(0xFFu << shift)) | (priority << shift);
    MBX_NVIC_ICPR(number >> 5) = 1u << (number & 31u);
    MBX_NVIC_ISER(number >> 5) = 1u << (number & 31u);
}

/* Waits until something holds that takes the hardware a moment, such as a clock that comes up. Where it never does, the
 * light says so (mbx_fault): a board that hangs without a word is the worst of all. A turn is four cycles or more, so that
 * the wait is 0.1 s or more at 168 MHz, and some seconds on a slow clock. */
#define MBX_PATIENCE_TURNS 4000000u
#define MBX_WAIT_FOR(condition)                                                                                        \
    for (uint32_t turns_ = 0; !(condition); turns_++) {                                                                \
        if (turns_ == MBX_PATIENCE_TURNS) {                                                                            \
            mbx_fault();                                                                                               \
        }                                                                                                              \
    }

static inline void mbx_mask_interrupts(void)
{
    __asm volatile("cpsid i" ::: "memory");
}

static inline void mbx_unmask_interrupts(void)
{
    __asm volatile("cpsie i" ::: "memory");
}

#endif
