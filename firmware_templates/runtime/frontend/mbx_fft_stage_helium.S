/* A stage of the FFT with Helium: mbx_fft_stage() of sizes from four on, four k at a time.
 *
 * void mbx_fft_stage_helium(mbx_bin *bins, uint32_t points, uint32_t size, const int32_t *twiddle_q31, uint32_t step)
 *
 * VRMULH is the rounded high word of a product, as SMMULR.
 */
#if defined(__ARM_FEATURE_MVE)
    .syntax unified
    .thumb
    .text

    .set    STEP, 24 + 64

    .global mbx_fft_stage_helium
    .type   mbx_fft_stage_helium, %function
    .thumb_func
mbx_fft_stage_helium:
    push    {r4-r8, r14}
    vpush   {d8-d15}
    ldr     r4, [sp, #STEP]
    lsl     r4, r4, #3         /* bytes from factor to factor */
    movs    r6, #0
    vidup.u32 q7, r6, #1
    vmul.i32 q7, q7, r4
    lsl     r5, r4, #2
    add     r1, r0, r1, lsl #3 /* where the bins end */
    lsl     r12, r2, #3
    lsr     r2, r2, #2
1:  mov     r6, r3
    add     r7, r3, #4
    add     r8, r0, r12
    dls     lr, r2
2:  vldrw.u32 q4, [r6, q7]     /* cosines */
    vldrw.u32 q5, [r7, q7]     /* sines */
    vld20.32 {q2, q3}, [r8]
    vld21.32 {q2, q3}, [r8]
    vld20.32 {q0, q1}, [r0]
    vld21.32 {q0, q1}, [r0]
    vrmulh.s32 q6, q2, q4
    vneg.s32 q2, q2
    vrmulh.s32 q2, q2, q5
    vrmulh.s32 q5, q3, q5
    vadd.i32 q6, q6, q5        /* the real part of w b / 2 */
    vrmulh.s32 q3, q3, q4
    vadd.i32 q2, q2, q3        /* the imaginary part */
    vshr.s32 q0, q0, #1
    vshr.s32 q1, q1, #1
    vsub.i32 q4, q0, q6
    vsub.i32 q5, q1, q2
    vadd.i32 q0, q0, q6
    vadd.i32 q1, q1, q2
    vst20.32 {q0, q1}, [r0]
    vst21.32 {q0, q1}, [r0]!
    vst20.32 {q4, q5}, [r8]
    vst21.32 {q4, q5}, [r8]!
    add     r6, r6, r5
    add     r7, r7, r5
    le      lr, 2b
    mov     r0, r8
    cmp     r0, r1
    blo     1b
    vpop    {d8-d15}
    pop     {r4-r8, pc}
    .size   mbx_fft_stage_helium, . - mbx_fft_stage_helium
#endif
