/* The inner loops of mbx_depthwise_line_dsp(): one channel, six outputs a pass.
 *
 * void mbx_depthwise_six(const int16_t *line, const int16_t *taps, int8_t *output, const int32_t *channel,
 *                        uint32_t groups, uint32_t blocks)
 *
 * line      the channel, padded with zeros and doubled; word-aligned
 * taps      [3 * groups] of two pairs: taps 2 j, 2 j + 1 for even outputs, 2 j - 1, 2 j for odd ones
 * output    [6 * blocks]
 * channel   2 b, m, (2 zero_point + 1) 2^(s-1), s - 1; requantization is told in mbx_pointwise_block.S
 * groups    1 to 8: of six taps
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
    .set    LINE, 0
    .set    TAPS, 4
    .set    OUTPUT, 8
    .set    CHANNEL, 12
    .set    ENTRY, 16
    .set    GROUPS, 56
    .set    BLOCKS, 60

    .global mbx_depthwise_six
    .type   mbx_depthwise_six, %function
    .thumb_func
mbx_depthwise_six:
    push    {r4-r11, r14}
    sub     sp, sp, #20
    stm     sp, {r0, r1, r2, r3}
    ldr     r4, [sp, #GROUPS]
    rsb     r4, r4, #MAX_GROUPS
    movs    r5, #GROUP_BYTES
    mul     r4, r4, r5
    adr     r5, 2f
    add     r4, r4, r5
    orr     r4, r4, #1
    str     r4, [sp, #ENTRY]
1:  ldrd    r14, r3, [sp, #CHANNEL] /* r3: the entry into the unrolled loop */
    ldr     r4, [r14]
    mov     r5, r4
    mov     r6, r4
    mov     r7, r4
    mov     r8, r4
    mov     r9, r4
    ldr     r10, [r0], #4
    ldr     r11, [r0], #4
    bx      r3
    .balign 4
2:  .rept   MAX_GROUPS
    PAIR    r10, r11, r12
    PAIR    r11, r12, r10
    PAIR    r12, r10, r11
    .endr
3:  .if     (3b - 2b) != MAX_GROUPS * GROUP_BYTES
    .error  "a group of taps is not GROUP_BYTES long"
    .endif
    ldr     r14, [sp, #CHANNEL]
    ldr     r11, [sp, #OUTPUT]
    add     r14, r14, #4
    ldm     r14, {r2, r3, r12}
    .irp    accumulator, r4, r5, r6, r7, r8, r9
    smmulr  \accumulator, \accumulator, r2
    add     \accumulator, \accumulator, \accumulator, asr #31
    add     \accumulator, \accumulator, r3
    asr     \accumulator, \accumulator, r12
    ssat    \accumulator, #8, \accumulator, asr #1
    strb    \accumulator, [r11], #1
    .endr
    str     r11, [sp, #OUTPUT]
    ldrd    r0, r1, [sp, #LINE]
    add     r0, r0, #12
    str     r0, [sp, #LINE]
    ldr     r2, [sp, #BLOCKS]
    subs    r2, r2, #1
    str     r2, [sp, #BLOCKS]
    bne     1b
    add     sp, sp, #20
    pop     {r4-r11, pc}
    .size   mbx_depthwise_six, . - mbx_depthwise_six
