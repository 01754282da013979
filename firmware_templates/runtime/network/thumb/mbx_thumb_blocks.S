/* The inner loops of mbx_kernels_thumb.c: four outputs at a time, or five.
 *
 * Four accumulators live in r8 to r11, four inputs in r0 to r3, which LDM loads together and MULS overwrites: 10
 * instructions for 4 multiply-accumulates; 6 where there is MLA. With a fifth accumulator, and
 * a fifth input in r4: 12 for 5.
 *
 * Requantization is TFLite's two roundings from 32-bit products. With a = 2^16 ah + al, |al| <= 2^15, and m = 2^16 mh + ml
 * the doubling high multiply is 2 ah mh + (M + 2^14 >> 15), M = al mh + (al ml >> 16) + ah ml; the compiler has checked
 * that |a| < 2^29, so that M is an int32. A rounding right shift of x leaves its rounding bit in the carry, which ADC adds;
 * one less than a negative x, before that, turns its ties away from zero.
 */
    .syntax unified
    .thumb
    .text

/* r0 to r3 times r5, added to the accumulators */
.macro ACCUMULATE
#if __ARM_ARCH >= 7
    mla     r8, r0, r5, r8
    mla     r9, r1, r5, r9
    mla     r10, r2, r5, r10
    mla     r11, r3, r5, r11
#else
    muls    r0, r5, r0
    muls    r1, r5, r1
    muls    r2, r5, r2
    muls    r3, r5, r3
    add     r8, r0
    add     r9, r1
    add     r10, r2
    add     r11, r3
#endif
.endm

/* r4 as well, to the fifth one */
.macro ACCUMULATE_FIFTH accumulator
#if __ARM_ARCH >= 7
    mla     \accumulator, r4, r5, \accumulator
#else
    muls    r4, r5, r4
    add     \accumulator, r4
#endif
.endm

/* r3 zero point, r4 ml, r5 mh, r6 output, r7 shift; offset: where the output's distance lies on the stack */
.macro REQUANTIZE accumulator, offset
    mov     r0, \accumulator
    sxth    r1, r0
    subs    r0, r0, r1
    asrs    r0, r0, #16
    movs    r2, r1
    muls    r2, r4, r2
    asrs    r2, r2, #16
    muls    r1, r5, r1
    adds    r1, r1, r2
    movs    r2, r0
    muls    r2, r4, r2
    adds    r1, r1, r2
    muls    r0, r5, r0
    lsls    r0, r0, #1
    asrs    r1, r1, #15
    adcs    r0, r1
    asrs    r1, r0, #31
    adds    r0, r0, r1
    asrs    r0, r7
    adcs    r0, r3
    sxtb    r1, r0
    cmp     r1, r0
    beq     9f
    asrs    r0, r0, #31
    movs    r1, #127
    eors    r0, r1
9:  ldr     r1, [sp, #\offset]
    strb    r0, [r6, r1]
.endm

/* The multiplier and the shift of a channel, and r3 the zero point, r6 the output. */
.macro LOAD_CHANNEL constants
    ldr     r5, [\constants, #4]
    uxth    r4, r5
    lsrs    r5, r5, #16
    ldr     r3, [sp, #SHIFTS]
    ldrb    r7, [r3]
    adds    r3, r3, #1
    str     r3, [sp, #SHIFTS]
    ldr     r3, [sp, #ZERO_POINT]
    ldr     r6, [sp, #OUTPUT]
.endm

.macro SAVE
    push    {r4-r7, r14}
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    push    {r4-r7}
    sub     sp, sp, #52
.endm

.macro RESTORE
    add     sp, sp, #52
    pop     {r4-r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    pop     {r4-r7, pc}
.endm

    /* on the stack */
    .set    OFFSET, 0 /* [5] bytes from the first output to each */
    .set    OUTPUT, 20
    .set    SHIFTS, 24
    .set    ZERO_POINT, 28
    .set    COUNT, 32
    .set    BLOCK, 36
    .set    WEIGHTS, 40
    .set    CHANNELS, 44

    /* struct mbx_pointwise_thumb_call */
    .set    CALL_OUT_CHANNELS, 4
    .set    CALL_GROUPS, 6
    .set    CALL_ZERO_POINT, 8
    .set    CALL_WEIGHTS, 12
    .set    CALL_CHANNELS, 16
    .set    CALL_SHIFTS, 20

/* Four or five positions, all output channels.
 *
 * void mbx_pointwise_four(const int32_t *block, const mbx_pointwise_thumb_call *call, int8_t *output,
 *                         const uint32_t offsets[4])
 * void mbx_pointwise_five(const int32_t *block, const mbx_pointwise_thumb_call *call, int8_t *output,
 *                         const uint32_t offsets[5])
 *
 * block   [positions] what the weights' offset of 128 adds, negated; then [16 * groups][positions] inputs
 */
.macro POINTWISE name, positions
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    SAVE
    str     r0, [sp, #BLOCK]
    str     r2, [sp, #OUTPUT]
    .if     \positions == 5
    ldr     r4, [r3, #16]
    str     r4, [sp, #OFFSET + 16]
    .endif
    ldm     r3!, {r4-r7}
    mov     r3, sp
    stm     r3!, {r4-r7}
    ldrh    r4, [r1, #CALL_GROUPS]
    lsls    r4, r4, #6
    .if     \positions == 5
    movs    r5, r4
    lsls    r4, r4, #2
    adds    r4, r4, r5
    .else
    lsls    r4, r4, #2
    .endif
    adds    r4, r4, r0
    adds    r4, r4, #4 * \positions
    mov     r12, r4
    ldrh    r4, [r1, #CALL_OUT_CHANNELS]
    str     r4, [sp, #COUNT]
    movs    r5, #CALL_ZERO_POINT
    ldrsh   r4, [r1, r5]
    str     r4, [sp, #ZERO_POINT]
    ldr     r4, [r1, #CALL_WEIGHTS]
    str     r4, [sp, #WEIGHTS]
    ldr     r4, [r1, #CALL_CHANNELS]
    str     r4, [sp, #CHANNELS]
    ldr     r4, [r1, #CALL_SHIFTS]
    str     r4, [sp, #SHIFTS]
1:  ldr     r7, [sp, #CHANNELS]
    ldr     r0, [r7]
    ldr     r6, [sp, #BLOCK]
    .if     \positions == 5
    ldm     r6!, {r1-r5}
    adds    r5, r5, r0
    mov     r14, r5
    .else
    ldm     r6!, {r1-r4}
    .endif
    adds    r1, r1, r0
    mov     r8, r1
    adds    r2, r2, r0
    mov     r9, r2
    adds    r3, r3, r0
    mov     r10, r3
    adds    r4, r4, r0
    mov     r11, r4
    ldr     r7, [sp, #WEIGHTS]
2:  .irp    input, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    ldrb    r5, [r7, #\input]
    .if     \positions == 5
    ldm     r6!, {r0-r4}
    ACCUMULATE
    ACCUMULATE_FIFTH r14
    .else
    ldm     r6!, {r0-r3}
    ACCUMULATE
    .endif
    .endr
    adds    r7, r7, #16
    cmp     r6, r12
    beq     3f
    b       2b
3:  str     r7, [sp, #WEIGHTS]
    ldr     r0, [sp, #CHANNELS]
    LOAD_CHANNEL r0
    adds    r0, r0, #8
    str     r0, [sp, #CHANNELS]
    REQUANTIZE r8, OFFSET
    REQUANTIZE r9, OFFSET + 4
    REQUANTIZE r10, OFFSET + 8
    REQUANTIZE r11, OFFSET + 12
    .if     \positions == 5
    REQUANTIZE r14, OFFSET + 16
    .endif
    adds    r6, r6, #1
    str     r6, [sp, #OUTPUT]
    ldr     r0, [sp, #COUNT]
    subs    r0, r0, #1
    str     r0, [sp, #COUNT]
    beq     4f
    b       1b
4:  RESTORE
    .size   \name, . - \name
.endm

    POINTWISE mbx_pointwise_four, 4
    POINTWISE mbx_pointwise_five, 5

    /* struct line_work of mbx_kernels_thumb.c */
    .set    WORK_OFFSETS, 0
    .set    WORK_CONSTANTS, 20
    .set    WORK_SHIFT, 24
    .set    WORK_ZERO_POINT, 28
    .set    WORK_TAPS, 32
    .set    WORK_ENTRY, 36 /* taps that the first pass of the unrolled loop leaves out */
    .set    WORK_TAPS_END, 40

/* Blocks of four outputs, or of five, of one channel; those of a block are written from the last to the first.
 *
 * void mbx_depthwise_four(const int32_t *line, const line_work *work, int8_t *output, uint32_t blocks)
 * void mbx_depthwise_five(const int32_t *line, const line_work *work, int8_t *output, uint32_t blocks)
 *
 * line    [outputs * blocks + kernel - 1] the channel, padded
 *
 * The fifth accumulator is r12.
 */
    .set    LINE, 36
    .set    TAPS, 40
    .set    ENTRY, 44
    .set    TAPS_END, 48

.macro DEPTHWISE name, outputs
#if __ARM_ARCH >= 7
    .set    TAP_BYTES, 4 * (\outputs + 2)
#else
    .set    TAP_BYTES, 4 * \outputs + 6
#endif
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    SAVE
    str     r0, [sp, #LINE]
    str     r2, [sp, #OUTPUT]
    str     r3, [sp, #COUNT]
    mov     r14, r1
    ldr     r4, [r1, #WORK_OFFSETS + 16]
    str     r4, [sp, #OFFSET + 16]
    ldm     r1!, {r4-r7}
    mov     r3, sp
    stm     r3!, {r4-r7}
    mov     r1, r14
    ldr     r4, [r1, #WORK_ZERO_POINT]
    str     r4, [sp, #ZERO_POINT]
    ldr     r4, [r1, #WORK_TAPS]
    str     r4, [sp, #TAPS]
    ldr     r4, [r1, #WORK_TAPS_END]
    str     r4, [sp, #TAPS_END]
    ldr     r4, [r1, #WORK_ENTRY]
    movs    r5, #TAP_BYTES
    muls    r4, r5, r4
    adr     r5, 2f
    adds    r4, r4, r5
    adds    r4, r4, #1
    str     r4, [sp, #ENTRY]
1:  mov     r4, r14
    ldr     r4, [r4, #WORK_CONSTANTS]
    ldr     r4, [r4]
    mov     r8, r4
    mov     r9, r4
    mov     r10, r4
    mov     r11, r4
    .if     \outputs == 5
    mov     r12, r4
    .endif
    ldr     r6, [sp, #LINE]
    ldr     r7, [sp, #TAPS]
    ldr     r4, [sp, #ENTRY]
    bx      r4
    .balign 4
2:  .rept   4
#if __ARM_ARCH >= 7
    ldr     r5, [r7], #4
#else
    ldm     r7!, {r5}
#endif
    .if     \outputs == 5
    ldm.n   r6!, {r0-r4}
    subs.n  r6, r6, #16
    ACCUMULATE
    ACCUMULATE_FIFTH r12
    .else
    ldm.n   r6!, {r0-r3}
    subs.n  r6, r6, #12
    ACCUMULATE
    .endif
    .endr
3:  .if     (3b - 2b) != 4 * TAP_BYTES
    .error  "a tap is not TAP_BYTES long"
    .endif
    ldr     r5, [sp, #TAPS_END]
    cmp     r7, r5
    bne     2b
    mov     r1, r14
    ldr     r7, [r1, #WORK_SHIFT]
    ldr     r1, [r1, #WORK_CONSTANTS]
    ldr     r5, [r1, #4]
    uxth    r4, r5
    lsrs    r5, r5, #16
    ldr     r3, [sp, #ZERO_POINT]
    ldr     r6, [sp, #OUTPUT]
    .if     \outputs == 5
    REQUANTIZE r12, OFFSET + 16
    .endif
    REQUANTIZE r11, OFFSET + 12
    REQUANTIZE r10, OFFSET + 8
    REQUANTIZE r9, OFFSET + 4
    REQUANTIZE r8, OFFSET
    ldr     r0, [sp, #OFFSET + 4]
    lsls    r1, r0, #2
    .if     \outputs == 5
    adds    r1, r1, r0
    .endif
    adds    r6, r6, r1
    str     r6, [sp, #OUTPUT]
    ldr     r1, [sp, #LINE]
    adds    r1, r1, #4 * \outputs
    str     r1, [sp, #LINE]
    ldr     r0, [sp, #COUNT]
    subs    r0, r0, #1
    str     r0, [sp, #COUNT]
    beq     4f
    b       1b
4:  RESTORE
    .size   \name, . - \name
.endm

    DEPTHWISE mbx_depthwise_four, 4
    DEPTHWISE mbx_depthwise_five, 5
