/* The inner loops of mbx_depthwise_line_dsp(): four channels one after another, six outputs a pass.
 *
 * void mbx_depthwise_lanes(const depthwise_work *work, const int32_t *constants, const uint8_t *shifts, int32_t zero,
 *                          uint32_t blocks)
 *
 * work       where the lanes' lines, taps and outputs lie: a line is a channel, padded with zeros and doubled,
 *            word-aligned; taps are [3 * groups] of two pairs: taps 2 j, 2 j + 1 for even outputs, 2 j - 1, 2 j for odd
 *            ones; outputs [6 * blocks]
 * constants  [4] of 2 b, m
 * shifts     [4] of s - 1; requantization is told in mbx_pointwise_block.S
 * zero       2 zero_point + 1
 *
 * A pair of inputs, loaded once, serves an even and an odd output; three pairs are at hand in registers that rotate.
 */
    .syntax unified
    .thumb
    .text

/* x0, x1 at hand, x2 loaded: the inputs of outputs 0/1, 2/3, 4/5 */
.macro PAIR x0, x1, x2
    ldm.w   r1!, {r2, r3}
    ldr     \x2, [r0], #4
    smlad   r4, \x0, r2, r4
    smlad   r5, \x0, r3, r5
    smlad   r6, \x1, r2, r6
    smlad   r7, \x1, r3, r7
    smlad   r8, \x2, r2, r8
    smlad   r9, \x2, r3, r9
.endm

    .set    GROUP_BYTES, 96
    .set    MAX_GROUPS, 8
    .set    TAP_BYTES, 8
    .set    LANES, 4

    /* struct depthwise_work of mbx_kernels_dsp.c */
    .set    WORK_GROUPS, 0
    .set    WORK_TAPS, 4
    .set    WORK_LINES, 8
    .set    WORK_RESULTS, 12
    .set    WORK_TAPS_LENGTH, 16 /* of a lane: pairs for an even and an odd output */
    .set    WORK_LINE_LENGTH, 20
    .set    WORK_RESULT_LENGTH, 24

    /* on the stack; of a lane, unless it says otherwise */
    .set    LINE, 0 /* of a block */
    .set    TAPS, 4
    .set    BIAS, 8
    .set    ENTRY, 12 /* into the unrolled loop, of all lanes */
    .set    MULTIPLIER, 16
    .set    ROUNDING, 20
    .set    SHIFT, 24
    .set    BLOCKS, 28 /* to go */
    .set    OUTPUT, 32 /* of a block */
    .set    FIRST_LINE, 36
    .set    FIRST_OUTPUT, 40
    .set    CONSTANTS, 44
    .set    SHIFTS, 48
    .set    ZERO, 52
    .set    WORK, 56
    .set    LANES_LEFT, 60
    .set    ALL_BLOCKS, 100

    .global mbx_depthwise_lanes
    .type   mbx_depthwise_lanes, %function
    .thumb_func
mbx_depthwise_lanes:
    push    {r4-r11, r14}
    sub     sp, sp, #64
    add     r4, sp, #CONSTANTS
    stm     r4, {r1, r2, r3}
    ldr     r4, [r0, #WORK_GROUPS]
    rsb     r4, r4, #MAX_GROUPS
    movs    r5, #GROUP_BYTES
    mul     r4, r4, r5
    adr     r5, 3f
    add     r4, r4, r5
    orr     r4, r4, #1
    str     r4, [sp, #ENTRY]
    movs    r5, #LANES
    strd    r0, r5, [sp, #WORK]
    ldr     r1, [r0, #WORK_TAPS]
    ldrd    r2, r3, [r0, #WORK_LINES] /* and RESULTS */
    b       2f
1:  ldrd    r4, r5, [sp, #WORK]
    subs    r5, r5, #1
    beq     4f
    str     r5, [sp, #LANES_LEFT]
    ldr     r1, [sp, #TAPS]
    ldrd    r2, r3, [sp, #FIRST_LINE]
    add     r4, r4, #WORK_TAPS_LENGTH
    ldm     r4, {r5, r6, r7}
    add     r1, r1, r5, lsl #3
    add     r2, r2, r6, lsl #1
    add     r3, r3, r7
2:  strd    r2, r1, [sp, #LINE] /* and TAPS */
    strd    r2, r3, [sp, #FIRST_LINE]
    ldrd    r4, r5, [sp, #CONSTANTS] /* and SHIFTS */
    ldrd    r6, r7, [r4], #8
    ldrb    r8, [r5], #1
    strd    r4, r5, [sp, #CONSTANTS]
    str     r6, [sp, #BIAS]
    ldr     r9, [sp, #ZERO]
    lsl     r9, r9, r8
    strd    r7, r9, [sp, #MULTIPLIER] /* and ROUNDING */
    ldr     r9, [sp, #ALL_BLOCKS]
    strd    r8, r9, [sp, #SHIFT] /* and BLOCKS */
    str     r3, [sp, #OUTPUT]
    mov     r0, r2
6:  ldrd    r4, r3, [sp, #BIAS] /* and ENTRY */
    mov     r5, r4
    mov     r6, r4
    mov     r7, r4
    mov     r8, r4
    mov     r9, r4
    ldr     r10, [r0], #4
    ldr     r11, [r0], #4
    bx      r3
4:  add     sp, sp, #64
    pop     {r4-r11, pc}
    .balign 4
3:  .rept   MAX_GROUPS
    PAIR    r10, r11, r12
    PAIR    r11, r12, r10
    PAIR    r12, r10, r11
    .endr
5:  .if     (5b - 3b) != MAX_GROUPS * GROUP_BYTES
    .error  "a group of taps is not GROUP_BYTES long"
    .endif
    ldrd    r2, r3, [sp, #MULTIPLIER] /* and ROUNDING */
    ldrd    r12, r14, [sp, #SHIFT] /* and BLOCKS */
    ldr     r11, [sp, #OUTPUT]
    .irp    accumulator, r4, r5, r6, r7, r8, r9
    add     r10, r3, \accumulator, asr #31
    smmlar  \accumulator, \accumulator, r2, r10
    asr     \accumulator, \accumulator, r12
    ssat    \accumulator, #8, \accumulator, asr #1
    strb    \accumulator, [r11], #1
    .endr
    subs    r14, r14, #1
    beq     1b
    strd    r14, r11, [sp, #BLOCKS] /* and OUTPUT */
    ldrd    r0, r1, [sp, #LINE] /* and TAPS */
    add     r0, r0, #12
    str     r0, [sp, #LINE]
    b       6b
    .size   mbx_depthwise_lanes, . - mbx_depthwise_lanes
