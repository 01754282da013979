#include "mbx_tflm_measure.h"

#define STEP_BYTES 16u

#if defined(__arm__)
#define PAINT 0xA5A5A5A5u
#define PAINTED_WORDS 4096u

extern uint32_t mbx_stack_top[];

/* Paints the stack below this function's frame. */
static void paint_stack(void)
{
    uint32_t *here;
    __asm volatile("mov %0, sp" : "=r"(here));
    for (volatile uint32_t *word = mbx_stack_top - PAINTED_WORDS; word < here; word++) {
        *word = PAINT;
    }
}

static uint32_t stack_bytes(void)
{
    const uint32_t *word = mbx_stack_top - PAINTED_WORDS;
    while (word < mbx_stack_top && *word == PAINT) {
        word++;
    }
    return (uint32_t)(mbx_stack_top - word) * 4u;
}
#else
static void paint_stack(void)
{
}

static uint32_t stack_bytes(void)
{
    return 0;
}
#endif

mbx_tflm_needs mbx_tflm_measure(mbx_tflm_setup setup, void *engine, uint8_t *arena, uint32_t arena_bytes)
{
    mbx_tflm_needs needs = {0, 0, 0, 0};
    paint_stack();
    if (setup(engine, arena, arena_bytes)) {
        needs.used_bytes = mbx_tflm_used_bytes(engine);
        needs.arena_bytes = (needs.used_bytes + STEP_BYTES - 1u) / STEP_BYTES * STEP_BYTES;
        while (needs.arena_bytes < arena_bytes && !setup(engine, arena, needs.arena_bytes)) {
            needs.arena_bytes += STEP_BYTES;
        }
        mbx_tflm_invoke(engine, 0, 0);
    }
    needs.stack_bytes = stack_bytes();
    return needs;
}
