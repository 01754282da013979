/* The front end's loops for cores that have Thumb's first instructions only (Cortex-M0+): products of 32 bits.
 *
 * A number a is 2^16 ah + al, |al| <= 2^15: a b = 2^32 ah bh + 2^16 (al bh + ah bl) + al bl. The middle term and what
 * al bl carries into it, M = al bh + ah bl + (al bl >> 16), is an int32 where |a| + |b| < 2^32 - 2^18; ah bh + (M >> 16)
 * is then the high word of the product, and the carry of that shift, which ADC adds, rounds it.
 */
#if defined(__ARM_ARCH_6M__)
    .syntax unified
    .thumb
    .text

/* high: a number below 2^31 - 2^15, of which al becomes low and ah high */
.macro SPLIT low, high
    sxth    \low, \high
    subs    \high, \high, \low
    asrs    \high, \high, #16
.endm

/* The same of any number; zero: a register that becomes 0. The carry is bit 15. */
.macro SPLIT_ANY low, high, zero
    sxth    \low, \high
    movs    \zero, #0
    asrs    \high, \high, #16
    adcs    \high, \zero
.endm

/* out: the rounded high word of r0, split into r1 and r0, times a factor, of halves low and high; r2, r3 free */
.macro MULTIPLY_HIGH out, low, high
    mov     r2, \low
    movs    r3, r2
    muls    r3, r1, r3
    asrs    r3, r3, #16
    muls    r2, r0, r2
    adds    r2, r2, r3
    mov     r3, \high
    movs    \out, r3
    muls    r3, r1, r3
    adds    r2, r2, r3
    muls    \out, r0, \out
    asrs    r2, r2, #16
    adcs    \out, r2
.endm

/* The same with the factor 2^31 - 1: half of it, ties towards zero. */
.macro HALVE value
    lsrs    r2, \value, #31
    adds    \value, \value, r2
    asrs    \value, \value, #1
.endm

.macro SAVE bytes
    push    {r4-r7, r14}
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    push    {r4-r7}
    sub     sp, sp, #\bytes
.endm

.macro RESTORE bytes
    add     sp, sp, #\bytes
    pop     {r4-r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    pop     {r4-r7, pc}
.endm

    .set    SAVED, 36

/* void mbx_fft_stage(mbx_bin *bins, uint32_t points, uint32_t size, const int32_t *twiddle_q31, uint32_t step)
 *
 * Of each k all pairs (a, b), size apart: (a / 2 + w b / 2, a / 2 - w b / 2). r8, r9 are the halves of the factor's
 * cosine, r10, r11 those of its sine, r12, r14 those of the sine's negative; cos 0 and sin 0 have no products.
 */
    .set    DISTANCE, 0 /* bytes from a to b */
    .set    END, 4      /* of all bins */
    .set    FIRST, 8    /* bin of this k */
    .set    COUNT, 12   /* k to go */
    .set    FACTOR, 16
    .set    STEP, 20    /* bytes from factor to factor */
    .set    FFT_BYTES, 24

/* r5, r6: w b / 2; r7: a. r7 becomes the next a, r0 where it ends */
.macro ADD_AND_SUBTRACT
    ldr     r0, [r7]
    asrs    r0, r0, #1
    adds    r1, r0, r5
    subs    r0, r0, r5
    ldr     r2, [r7, #4]
    asrs    r2, r2, #1
    adds    r3, r2, r6
    subs    r2, r2, r6
    ldr     r4, [sp, #DISTANCE]
    str     r1, [r7]
    str     r3, [r7, #4]
    adds    r7, r7, r4
    str     r0, [r7]
    str     r2, [r7, #4]
    adds    r7, r7, r4
    ldr     r0, [sp, #END]
.endm

    .global mbx_fft_stage
    .type   mbx_fft_stage, %function
    .thumb_func
mbx_fft_stage:
    SAVE    FFT_BYTES
    lsls    r1, r1, #3
    adds    r1, r1, r0
    str     r1, [sp, #END]
    str     r0, [sp, #FIRST]
    str     r2, [sp, #COUNT]
    lsls    r2, r2, #3
    str     r2, [sp, #DISTANCE]
    str     r3, [sp, #FACTOR]
    ldr     r0, [sp, #FFT_BYTES + SAVED]
    lsls    r0, r0, #3
    str     r0, [sp, #STEP]
1:  ldr     r7, [sp, #FIRST]
    movs    r0, r7
    adds    r0, r0, #8
    str     r0, [sp, #FIRST]
    ldr     r0, [sp, #FACTOR]
    ldr     r1, [sp, #STEP]
    ldr     r4, [r0]
    ldr     r6, [r0, #4]
    adds    r0, r0, r1
    str     r0, [sp, #FACTOR]
    cmp     r6, #0
    bne     3f
2:  ldr     r2, [sp, #DISTANCE] /* w is 1 */
    ldr     r5, [r7, r2]
    adds    r2, r2, #4
    ldr     r6, [r7, r2]
    HALVE   r5
    HALVE   r6
    ADD_AND_SUBTRACT
    cmp     r7, r0
    blo     2b
    b       6f
3:  cmp     r4, #0
    bne     5f
4:  ldr     r2, [sp, #DISTANCE] /* w is -i */
    ldr     r6, [r7, r2]
    adds    r2, r2, #4
    ldr     r5, [r7, r2]
    negs    r6, r6
    HALVE   r5
    HALVE   r6
    ADD_AND_SUBTRACT
    cmp     r7, r0
    blo     4b
    b       6f
5:  SPLIT_ANY r3, r4, r0
    mov     r8, r3
    mov     r9, r4
    SPLIT_ANY r5, r6, r0
    mov     r10, r5
    mov     r11, r6
    negs    r5, r5
    mov     r12, r5
    negs    r6, r6
    mov     r14, r6
5:  ldr     r2, [sp, #DISTANCE]
    ldr     r0, [r7, r2]
    SPLIT   r1, r0
    MULTIPLY_HIGH r5, r8, r9
    MULTIPLY_HIGH r6, r12, r14
    ldr     r2, [sp, #DISTANCE]
    adds    r2, r2, #4
    ldr     r0, [r7, r2]
    SPLIT   r1, r0
    MULTIPLY_HIGH r4, r10, r11
    adds    r5, r5, r4
    MULTIPLY_HIGH r4, r8, r9
    adds    r6, r6, r4
    ADD_AND_SUBTRACT
    cmp     r7, r0
    blo     5b
6:  ldr     r0, [sp, #COUNT]
    subs    r0, r0, #1
    str     r0, [sp, #COUNT]
    beq     7f
    b       1b
7:  RESTORE FFT_BYTES
    .size   mbx_fft_stage, . - mbx_fft_stage

/* void mbx_dot_rows(const int32_t *row, const int32_t *values, uint32_t count, int32_t *output, uint32_t step,
 *                   uint32_t rows): see mbx_frontend.c
 *
 * A sum in three parts: r8 of low halves of al bl, r9 of low halves of M, r10 of what those leave, at 2^32.
 */
    .set    VALUES, 0
    .set    ROW_BYTES, 4
    .set    OUTPUT, 8
    .set    ODD, 12
    .set    DOT_BYTES, 16
    .set    DOT_STEP, DOT_BYTES + SAVED
    .set    DOT_ROWS, DOT_BYTES + SAVED + 4
    .set    HALF_HIGH, 1 << (39 - 1 - 32) /* Q55 to Q16 */
    .set    SHIFT_HIGH, 39 - 32

/* A weight of 2^31 - 2^15 or more stands alone: that of a single mel. */
.macro ADD_PRODUCT alone=0
    ldm     r6!, {r0}
    ldm     r7!, {r2}
    .if     \alone
    SPLIT_ANY r1, r0, r3
    .else
    SPLIT   r1, r0
    .endif
    SPLIT   r3, r2
    movs    r4, r1
    muls    r4, r3, r4
    muls    r1, r2, r1
    muls    r3, r0, r3
    muls    r2, r0, r2
    uxth    r0, r4
    add     r8, r0
    asrs    r4, r4, #16
    adds    r1, r1, r3
    adds    r1, r1, r4
    uxth    r0, r1
    add     r9, r0
    asrs    r1, r1, #16
    adds    r2, r2, r1
    add     r10, r2
.endm

    .global mbx_dot_rows
    .type   mbx_dot_rows, %function
    .thumb_func
mbx_dot_rows:
    SAVE    DOT_BYTES
    movs    r6, r0
    str     r1, [sp, #VALUES]
    str     r3, [sp, #OUTPUT]
    movs    r3, #1
    ands    r3, r2
    str     r3, [sp, #ODD]
    subs    r2, r2, r3
    lsls    r2, r2, #2
    str     r2, [sp, #ROW_BYTES]
    ldr     r0, [sp, #DOT_STEP]
    lsls    r0, r0, #2
    str     r0, [sp, #DOT_STEP]
1:  ldr     r7, [sp, #VALUES]
    movs    r0, #0
    mov     r8, r0
    mov     r9, r0
    mov     r10, r0
    ldr     r5, [sp, #ROW_BYTES]
    adds    r5, r5, r6
    cmp     r5, r6
    beq     3f
2:  ADD_PRODUCT
    ADD_PRODUCT
    cmp     r6, r5
    bne     2b
3:  ldr     r0, [sp, #ODD]
    cmp     r0, #0
    beq     4f
    ADD_PRODUCT 1
4:  mov     r0, r8
    lsrs    r0, r0, #16
    add     r0, r9
    lsrs    r0, r0, #16
    add     r0, r10
    adds    r0, r0, #HALF_HIGH
    asrs    r0, r0, #SHIFT_HIGH
    ldr     r1, [sp, #OUTPUT]
    str     r0, [r1]
    ldr     r2, [sp, #DOT_STEP]
    adds    r1, r1, r2
    str     r1, [sp, #OUTPUT]
    ldr     r0, [sp, #DOT_ROWS]
    subs    r0, r0, #1
    str     r0, [sp, #DOT_ROWS]
    bne     1b
    RESTORE DOT_BYTES
    .size   mbx_dot_rows, . - mbx_dot_rows

/* void mbx_mel_rows(const mbx_bin *bins, const uint16_t *first, const uint16_t *count, const uint32_t *weights_q32,
 *                   mbx_mel *mels, uint32_t n_mels): see mbx_frontend.c
 *
 * All numbers are unsigned here, their halves as well. r8, r9: the sum; r10: weights; r11: bins; r12: bins to go.
 */
    .set    BINS, 0
    .set    FIRSTS, 4
    .set    COUNTS, 8
    .set    MEL_BYTES, 12
    .set    MELS, MEL_BYTES + SAVED
    .set    N_MELS, MEL_BYTES + SAVED + 4

/* value: the high word of it times 2^16 r7 + r6; r4, r5 free */
.macro MULTIPLY_UNSIGNED value, low
    uxth    \low, \value
    lsrs    \value, \value, #16
    movs    r4, \low
    muls    r4, r6, r4
    lsrs    r4, r4, #16
    movs    r5, \value
    muls    r5, r6, r5
    adds    r4, r4, r5
    muls    \low, r7, \low
    uxth    r5, r4
    adds    \low, \low, r5
    muls    \value, r7, \value
    lsrs    r4, r4, #16
    adds    \value, \value, r4
    lsrs    \low, \low, #16
    adds    \value, \value, \low
.endm

    .global mbx_mel_rows
    .type   mbx_mel_rows, %function
    .thumb_func
mbx_mel_rows:
    SAVE    MEL_BYTES
    str     r0, [sp, #BINS]
    str     r1, [sp, #FIRSTS]
    str     r2, [sp, #COUNTS]
    mov     r10, r3
1:  ldr     r1, [sp, #FIRSTS]
    ldrh    r0, [r1]
    adds    r1, r1, #2
    str     r1, [sp, #FIRSTS]
    lsls    r0, r0, #3
    ldr     r1, [sp, #BINS]
    adds    r0, r0, r1
    mov     r11, r0
    ldr     r1, [sp, #COUNTS]
    ldrh    r2, [r1]
    adds    r1, r1, #2
    str     r1, [sp, #COUNTS]
    movs    r0, #0
    mov     r8, r0
    mov     r9, r0
    cmp     r2, #0
    beq     3f
    mov     r12, r2
2:  mov     r4, r10
    ldm     r4!, {r7}
    mov     r10, r4
    mov     r4, r11
    ldm     r4!, {r0, r1}
    mov     r11, r4
    movs    r2, r1
    muls    r2, r7, r2 /* the low word of the high word's product */
    uxth    r6, r7
    lsrs    r7, r7, #16
    MULTIPLY_UNSIGNED r0, r3
    MULTIPLY_UNSIGNED r1, r3
    movs    r3, #0
    adds    r2, r2, r0
    adcs    r1, r3
    mov     r4, r8
    adds    r2, r2, r4
    mov     r8, r2
    mov     r4, r9
    adcs    r1, r4
    mov     r9, r1
    mov     r4, r12
    subs    r4, r4, #1
    mov     r12, r4
    bne     2b
3:  ldr     r2, [sp, #MELS]
    mov     r0, r8
    mov     r1, r9
    stm     r2!, {r0, r1}
    str     r2, [sp, #MELS]
    ldr     r0, [sp, #N_MELS]
    subs    r0, r0, #1
    str     r0, [sp, #N_MELS]
    bne     1b
    RESTORE MEL_BYTES
    .size   mbx_mel_rows, . - mbx_mel_rows
#endif
