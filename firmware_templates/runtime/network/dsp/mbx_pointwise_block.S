/* The inner loops of mbx_pointwise_dsp(): four positions, or two, all pairs of output channels.
 *
 * void mbx_pointwise_block(const int16_t *pairs, const mbx_pointwise_dsp_call *call, int8_t *output, uint32_t stride)
 * void mbx_pointwise_two(const int16_t *pairs, const mbx_pointwise_dsp_call *call, int8_t *output, uint32_t stride)
 *
 * pairs     [8 * groups][4 positions] two inputs each, doubled; mbx_pointwise_dsp() makes them
 * output    of position p, channel o at output[p * stride + o]; stride is even
 *
 * 12 instructions for 16 multiply-accumulates; with two positions 7 for 8. A halfword of weights is v = 256 w1 + w0, of two output channels: its low
 * byte, sign-extended, is w0; used as it is, it accumulates m = sum x v, of which sum x w1 = (m - sum x w0) / 256 is
 * left. m may wrap, as long as the sums stay below 2^22.
 *
 * Requantization is TFLite's two roundings in four instructions: SMMLAR of a doubled accumulator is the doubling high
 * multiply, to which its sign and (2 zero_point + 1) 2^(s-1) are added; a shift by s in two parts then divides with
 * ties away from zero. The accumulator's sign may stand for the product's: where that is rounded to 0, one less
 * changes nothing. The compiler has checked that s >= 1 and that no sum leaves int32.
 */
    .syntax unified
    .thumb
    .text

/* r0 pairs, r1 weights, r4-r7 channel 0, r8-r11 both channels */
.macro ACCUMULATE
    ldr     r2, [r1], #4
    ldrd    r3, r14, [r0, #8]
    sxtb16  r12, r2
    smlad   r6, r3, r12, r6
    smlad   r10, r3, r2, r10
    smlad   r7, r14, r12, r7
    smlad   r11, r14, r2, r11
    ldrd    r3, r14, [r0], #16
    smlad   r4, r3, r12, r4
    smlad   r8, r3, r2, r8
    smlad   r5, r14, r12, r5
    smlad   r9, r14, r2, r9
.endm

/* channel 1 of both channels */
.macro SEPARATE both, channel0
    sub     \both, \both, \channel0
    asr     \both, \both, #8
.endm

/* r2 multiplier, r3 rounding and zero point, r12 shift - 1; temporary: free */
.macro REQUANTIZE accumulator, temporary
    add     \temporary, r3, \accumulator, asr #31
    smmlar  \accumulator, \accumulator, r2, \temporary
    asr     \accumulator, \accumulator, r12
    ssat    \accumulator, #8, \accumulator, asr #1
.endm

    /* struct mbx_pointwise_dsp_call */
    .set    CALL_OUT_PAIRS, 6
    .set    CALL_GROUPS, 8
    .set    CALL_ZERO_POINT, 10
    .set    CALL_WEIGHTS, 12
    .set    CALL_CHANNELS, 16
    .set    CALL_SHIFTS, 20

    /* on the stack */
    .set    PAIRS, 0
    .set    PAIRS_END, 4
    .set    OUTPUT, 8
    .set    STRIDE, 12
    .set    CHANNELS, 16
    .set    SHIFTS, 20
    .set    ROUNDING, 24
    .set    OUT_PAIRS, 28

    .global mbx_pointwise_block
    .type   mbx_pointwise_block, %function
    .thumb_func
mbx_pointwise_block:
    push    {r4-r11, r14}
    sub     sp, sp, #36
    ldrh    r4, [r1, #CALL_GROUPS]
    add     r4, r0, r4, lsl #7
    strd    r0, r4, [sp, #PAIRS]
    strd    r2, r3, [sp, #OUTPUT]
    ldrd    r4, r5, [r1, #CALL_CHANNELS]
    strd    r4, r5, [sp, #CHANNELS]
    ldrsh   r4, [r1, #CALL_ZERO_POINT]
    lsl     r4, r4, #1
    add     r4, r4, #1
    ldrh    r5, [r1, #CALL_OUT_PAIRS]
    strd    r4, r5, [sp, #ROUNDING]
    ldr     r1, [r1, #CALL_WEIGHTS]
1:  ldr     r14, [sp, #CHANNELS]
    ldr     r0, [sp, #PAIRS]
    ldrd    r4, r8, [r14]
    mov     r5, r4
    mov     r6, r4
    mov     r7, r4
    mov     r9, r8
    mov     r10, r8
    mov     r11, r8
2:  .rept   8
    ACCUMULATE
    .endr
    ldr     r3, [sp, #PAIRS_END]
    cmp     r0, r3
    bne     2b
    SEPARATE r8, r4
    SEPARATE r9, r5
    SEPARATE r10, r6
    SEPARATE r11, r7
    ldrd    r14, r0, [sp, #CHANNELS] /* and SHIFTS */
    ldr     r2, [r14, #8]
    ldrb    r12, [r0]
    ldr     r3, [sp, #ROUNDING]
    lsl     r3, r3, r12
    REQUANTIZE r4, r0
    REQUANTIZE r5, r0
    REQUANTIZE r6, r0
    REQUANTIZE r7, r0
    ldr     r0, [sp, #SHIFTS]
    ldr     r2, [r14, #12]
    ldrb    r12, [r0, #1]
    ldr     r3, [sp, #ROUNDING]
    lsl     r3, r3, r12
    REQUANTIZE r8, r0
    REQUANTIZE r9, r0
    REQUANTIZE r10, r0
    REQUANTIZE r11, r0
    ldr     r0, [sp, #SHIFTS]
    add     r14, r14, #16
    add     r0, r0, #2
    strd    r14, r0, [sp, #CHANNELS]
    ldrd    r2, r3, [sp, #OUTPUT] /* and STRIDE */
    bfi     r4, r8, #8, #8
    bfi     r5, r9, #8, #8
    bfi     r6, r10, #8, #8
    bfi     r7, r11, #8, #8
    strh    r5, [r2, r3]
    strh    r6, [r2, r3, lsl #1]
    add     r12, r2, r3
    strh    r7, [r12, r3, lsl #1]
    strh    r4, [r2], #2
    str     r2, [sp, #OUTPUT]
    ldr     r0, [sp, #OUT_PAIRS]
    subs    r0, r0, #1
    str     r0, [sp, #OUT_PAIRS]
    bne     1b
    add     sp, sp, #36
    pop     {r4-r11, pc}
    .size   mbx_pointwise_block, . - mbx_pointwise_block

/* r0 pairs, r1 weights, r4, r5 channel 0, r8, r9 both channels */
.macro ACCUMULATE_TWO
    ldr     r2, [r1], #4
    ldrd    r3, r14, [r0], #16
    sxtb16  r12, r2
    smlad   r4, r3, r12, r4
    smlad   r8, r3, r2, r8
    smlad   r5, r14, r12, r5
    smlad   r9, r14, r2, r9
.endm

    .global mbx_pointwise_two
    .type   mbx_pointwise_two, %function
    .thumb_func
mbx_pointwise_two:
    push    {r4-r11, r14}
    sub     sp, sp, #36
    ldrh    r4, [r1, #CALL_GROUPS]
    add     r4, r0, r4, lsl #7
    strd    r0, r4, [sp, #PAIRS]
    strd    r2, r3, [sp, #OUTPUT]
    ldrd    r10, r11, [r1, #CALL_CHANNELS] /* and SHIFTS */
    ldrsh   r4, [r1, #CALL_ZERO_POINT]
    lsl     r4, r4, #1
    add     r4, r4, #1
    ldrh    r5, [r1, #CALL_OUT_PAIRS]
    strd    r4, r5, [sp, #ROUNDING]
    ldr     r1, [r1, #CALL_WEIGHTS]
    mov     r7, r4                  /* rounding before its shift */
    ldr     r6, [sp, #PAIRS_END]
1:  ldr     r0, [sp, #PAIRS]
    ldrd    r4, r8, [r10]
    mov     r5, r4
    mov     r9, r8
2:  .rept   8
    ACCUMULATE_TWO
    .endr
    cmp     r0, r6
    bne     2b
    SEPARATE r8, r4
    SEPARATE r9, r5
    ldr     r2, [r10, #8]
    ldrb    r12, [r11], #1
    lsl     r3, r7, r12
    REQUANTIZE r4, r0
    REQUANTIZE r5, r0
    ldr     r2, [r10, #12]
    ldrb    r12, [r11], #1
    lsl     r3, r7, r12
    REQUANTIZE r8, r0
    REQUANTIZE r9, r0
    add     r10, r10, #16
    ldrd    r2, r3, [sp, #OUTPUT] /* and STRIDE */
    bfi     r4, r8, #8, #8
    bfi     r5, r9, #8, #8
    strh    r5, [r2, r3]
    strh    r4, [r2], #2
    str     r2, [sp, #OUTPUT]
    ldr     r0, [sp, #OUT_PAIRS]
    subs    r0, r0, #1
    str     r0, [sp, #OUT_PAIRS]
    bne     1b
    add     sp, sp, #36
    pop     {r4-r11, pc}
    .size   mbx_pointwise_two, . - mbx_pointwise_two
