/* The window and the first pass of the FFT at once: four inputs, a quarter of all apart, are neighbours once reversed.
 *
 * void mbx_window_fours(const int16_t *samples, const int32_t *window_q29, mbx_bin *bins, uint32_t whole,
 *                       uint32_t quarter, uint32_t quarters)
 *
 * whole     n below it have one input under the window more than quarters
 * quarter   n_fft / 8
 * quarters  2 or 3
 */
    .syntax unified
    .thumb
    .text

    .set    WHOLE, 0
    .set    QUARTER, 4
    .set    QUARTER_ARGUMENT, 36
    .set    QUARTERS_ARGUMENT, 40

/* r4 two samples, re, im their weights, which become the windowed pair */
.macro WEIGH re, im
    smulwb  \re, \re, r4
    smulwt  \im, \im, r4
.endm

/* r0 samples and r1 window of input n, r2 bins, r3 n, r12 bytes of a quarter of samples, r14 bits above a reversed n */
.macro TRANSFORM inputs, end
1:  ldr     r4, [r0, r12]
    add     r5, r1, r12, lsl #1
    ldrd    r10, r11, [r5]
    WEIGH   r10, r11
    .if     \inputs > 2
    ldr     r4, [r0, r12, lsl #1]
    add     r6, r1, r12, lsl #2
    ldrd    r8, r9, [r6]
    WEIGH   r8, r9
    .endif
    .if     \inputs > 3
    add     r4, r0, r12
    ldr     r4, [r4, r12, lsl #1]
    add     r5, r5, r12, lsl #2
    ldrd    r6, r7, [r5]
    WEIGH   r6, r7
    add     r4, r10, r6
    sub     r6, r10, r6
    add     r5, r11, r7
    sub     r7, r11, r7
    strd    r4, r5, [sp, #8]
    strd    r6, r7, [sp, #16]
    .endif
    ldr     r4, [r0], #4
    ldrd    r6, r7, [r1], #8
    WEIGH   r6, r7
    .if     \inputs > 2
    add     r4, r6, r8
    sub     r6, r6, r8
    add     r5, r7, r9
    sub     r7, r7, r9
    .else
    mov     r4, r6
    mov     r5, r7
    .endif
    rbit    r8, r3
    lsr     r8, r8, r14
    add     r8, r2, r8, lsl #5
    .if     \inputs > 3
    ldrd    r10, r11, [sp, #8]
    .endif
    add     r9, r4, r10
    sub     r4, r4, r10
    str     r9, [r8]
    add     r9, r5, r11
    sub     r5, r5, r11
    str     r9, [r8, #4]
    strd    r4, r5, [r8, #16]
    .if     \inputs > 3
    ldrd    r10, r11, [sp, #16]
    .endif
    add     r4, r6, r11
    sub     r6, r6, r11
    sub     r5, r7, r10
    add     r7, r7, r10
    strd    r4, r5, [r8, #8]
    strd    r6, r7, [r8, #24]
    adds    r3, r3, #1
    ldr     r4, [sp, #\end]
    cmp     r3, r4
    blo     1b
.endm

    .global mbx_window_fours
    .type   mbx_window_fours, %function
    .thumb_func
mbx_window_fours:
    push    {r4-r11, r14}
    ldrd    r4, r5, [sp, #QUARTER_ARGUMENT] /* and QUARTERS_ARGUMENT */
    sub     sp, sp, #28
    strd    r3, r4, [sp, #WHOLE]
    lsl     r12, r4, #2
    clz     r14, r4
    add     r14, r14, #1
    movs    r3, #0
    cmp     r5, #2
    beq     2f
    TRANSFORM 4, WHOLE
    ldr     r4, [sp, #QUARTER]
    cmp     r3, r4
    beq     3f
    TRANSFORM 3, QUARTER
    b       3f
2:  TRANSFORM 3, WHOLE
    ldr     r4, [sp, #QUARTER]
    cmp     r3, r4
    beq     3f
    TRANSFORM 2, QUARTER
3:  add     sp, sp, #28
    pop     {r4-r11, pc}
    .size   mbx_window_fours, . - mbx_window_fours
