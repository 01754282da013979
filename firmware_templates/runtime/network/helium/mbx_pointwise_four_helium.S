/* The inner loops of mbx_pointwise_helium(): four positions, all output channels, two at a time.
 *
 * void mbx_pointwise_four_helium(const int8_t *block, const mbx_pointwise_helium_call *call, int8_t *output,
 *                                const uint32_t offsets[4])
 *
 * block     [groups][4 positions][16 inputs], zeros behind the last input
 * output    of position p, channel o at output[offsets[p] + o]
 *
 * 14 instructions for 128 multiply-accumulates. Then the four positions of a channel are a vector, and requantization is
 * TFLite's two roundings: VQRDMULH is the doubling high multiply, ties up; VRSHL divides with ties up, which one less
 * than a negative number turns into ties away from zero. The compiler has checked that the shift is at least 1.
 */
#if defined(__ARM_FEATURE_MVE)
    .syntax unified
    .thumb
    .text

/* r1 block, r3 weights; channel 0 in r0, r2, r4, r6, channel 1 in r8, r10, r12, r14 */
.macro GROUP multiply
    vldrb.u8    q4, [r3], #16
    vldrb.u8    q0, [r1], #16
    \multiply   r0, q0, q4
    vldrb.u8    q1, [r1], #16
    \multiply   r2, q1, q4
    vldrb.u8    q5, [r3], #16
    \multiply   r8, q0, q5
    vldrb.u8    q2, [r1], #16
    \multiply   r10, q1, q5
    vldrb.u8    q3, [r1], #16
    \multiply   r4, q2, q4
    \multiply   r6, q3, q4
    \multiply   r12, q2, q5
    \multiply   r14, q3, q5
.endm

    /* struct mbx_pointwise_helium_call */
    .set    CALL_OUT_CHANNELS, 4
    .set    CALL_GROUPS, 6
    .set    CALL_ZERO_POINT, 8
    .set    CALL_LOW, 10
    .set    CALL_HIGH, 12
    .set    CALL_WEIGHTS, 16
    .set    CALL_CHANNELS, 20

    /* on the stack */
    .set    BLOCK, 0
    .set    MORE_GROUPS, 4
    .set    COUNT, 8
    .set    HIGH, 16 /* [4] */

    .global mbx_pointwise_four_helium
    .type   mbx_pointwise_four_helium, %function
    .thumb_func
mbx_pointwise_four_helium:
    push    {r4-r11, r14}
    vpush   {d8-d15}
    sub     sp, sp, #36
    vldrw.u32 q6, [r3]
    ldrsh   r4, [r1, #CALL_LOW]
    vdup.32 q7, r4
    ldrsh   r4, [r1, #CALL_HIGH]
    vdup.32 q0, r4
    add     r4, sp, #HIGH
    vstrw.32 q0, [r4]
    ldrh    r4, [r1, #CALL_OUT_CHANNELS]
    str     r4, [sp, #COUNT]
    ldrh    r4, [r1, #CALL_GROUPS]
    subs    r4, r4, #1
    strd    r0, r4, [sp, #BLOCK]
    ldrsh   r11, [r1, #CALL_ZERO_POINT]
    ldr     r3, [r1, #CALL_WEIGHTS]
    ldr     r5, [r1, #CALL_CHANNELS]
    mov     r9, r2
1:  ldrd    r1, r7, [sp, #BLOCK]
    GROUP   vmladav.s8
    cbz     r7, 3f
2:  GROUP   vmladava.s8
    subs    r7, r7, #1
    bne     2b
3:  /* the first word to the lower lane, the second to the higher one */
    vmov    q0[2], q0[0], r0, r4
    vmov    q0[3], q0[1], r2, r6
    vmov    q1[2], q1[0], r8, r12
    vmov    q1[3], q1[1], r10, r14
    ldm     r5!, {r0, r2, r4, r6, r8, r10}
    vadd.i32 q0, q0, r0
    vadd.i32 q1, q1, r6
    vqrdmulh.s32 q0, q0, r2
    vqrdmulh.s32 q1, q1, r8
    vshr.s32 q2, q0, #31
    vshr.s32 q3, q1, #31
    vadd.i32 q0, q0, q2
    vadd.i32 q1, q1, q3
    add     r1, sp, #HIGH
    vldrw.u32 q4, [r1]
    vrshl.s32 q0, r4
    vrshl.s32 q1, r10
    vqadd.s32 q0, q0, r11
    vqadd.s32 q1, q1, r11
    vmax.s32 q0, q0, q7
    vmax.s32 q1, q1, q7
    vmin.s32 q0, q0, q4
    vmin.s32 q1, q1, q4
    ldr     r7, [sp, #COUNT]
    vstrb.32 q0, [r9, q6]
    subs    r7, r7, #1
    beq     4f
    add     r9, r9, #1
    vstrb.32 q1, [r9, q6]
    add     r9, r9, #1
    subs    r7, r7, #1
    str     r7, [sp, #COUNT]
    bne     1b
4:  add     sp, sp, #36
    vpop    {d8-d15}
    pop     {r4-r11, pc}
    .size   mbx_pointwise_four_helium, . - mbx_pointwise_four_helium
#endif
