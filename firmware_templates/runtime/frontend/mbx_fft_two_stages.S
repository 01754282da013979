/* Two stages of the FFT at once: mbx_fft_stage() of size, then of 2 * size, with half of the loads and stores.
 *
 * void mbx_fft_two_stages(mbx_bin *bins, uint32_t points, uint32_t size, const int32_t *twiddle_q31, uint32_t step)
 * void mbx_fft_last_stages(mbx_bin *bins, uint32_t points, const int32_t *twiddle_q31)
 *
 * The four lines i, i + size, i + 2 size, i + 3 size stay in registers: (0, 1) and (2, 3) meet with the first stage's
 * factor, then (0, 2) and (1, 3) with the two of the second. step is points / size. Rounded as mbx_fft_stage() rounds.
 * Of the last two stages, whose size is points / 4, every k has four lines only.
 */
    .syntax unified
    .thumb
    .text

/* r2 cosine, r3 sine, r12, r14 free: (a, b) -> (a / 2 + w b / 2, a / 2 - w b / 2) */
.macro BUTTERFLY ar, ai, br, bi
    smmulr  r12, \br, r2
    smmulr  r14, \bi, r2
    smmlar  r12, \bi, r3, r12
    smmlsr  r14, \br, r3, r14
    rsb     \br, r12, \ar, asr #1
    rsb     \bi, r14, \ai, asr #1
    add     \ar, r12, \ar, asr #1
    add     \ai, r14, \ai, asr #1
.endm

/* r0: the first line, behind both as well; r1: bytes from line to line. The first one is left to be stored. */
.macro LOAD_LINES
    ldrd    r4, r5, [r0]
    add     r0, r0, r1
    ldrd    r6, r7, [r0]
    add     r0, r0, r1
    ldrd    r8, r9, [r0]
    add     r0, r0, r1
    ldrd    r10, r11, [r0]
.endm

.macro STORE_LINES
    strd    r10, r11, [r0]
    sub     r0, r0, r1
    strd    r8, r9, [r0]
    sub     r0, r0, r1
    strd    r6, r7, [r0]
    sub     r0, r0, r1
.endm

    .set    FACTORS, 0     /* the first stage's, the second's for (0, 2), for (1, 3) */
    .set    BINS, 24       /* of this k */
    .set    BINS_END, 28   /* of all */
    .set    FIRST, 32      /* where the first stage's factor lies in the table */
    .set    SECOND, 36
    .set    FIRST_STEP, 40 /* bytes; the second's is half of it */
    .set    QUARTER, 44    /* bytes from the second's factor for (0, 2) to that for (1, 3) */
    .set    COUNT, 48      /* k to go */
    .set    STEP_ARGUMENT, 88

    .global mbx_fft_two_stages
    .type   mbx_fft_two_stages, %function
    .thumb_func
mbx_fft_two_stages:
    push    {r4-r11, r14}
    sub     sp, sp, #52
    add     r4, r0, r1, lsl #3
    strd    r0, r4, [sp, #BINS]
    strd    r3, r3, [sp, #FIRST]
    ldr     r4, [sp, #STEP_ARGUMENT]
    lsl     r4, r4, #3
    lsl     r5, r1, #2
    strd    r4, r5, [sp, #FIRST_STEP]
    str     r2, [sp, #COUNT]
    lsl     r1, r2, #3
1:  ldrd    r2, r3, [sp, #FIRST]
    ldrd    r4, r5, [sp, #FIRST_STEP]
    ldrd    r6, r7, [r2]
    strd    r6, r7, [sp, #FACTORS]
    ldrd    r6, r7, [r3]
    strd    r6, r7, [sp, #FACTORS + 8]
    add     r5, r3, r5
    ldrd    r6, r7, [r5]
    strd    r6, r7, [sp, #FACTORS + 16]
    add     r2, r2, r4
    add     r3, r3, r4, lsr #1
    strd    r2, r3, [sp, #FIRST]
    ldr     r0, [sp, #BINS]
    add     r2, r0, #8
    str     r2, [sp, #BINS]
2:  LOAD_LINES
    ldrd    r2, r3, [sp, #FACTORS]
    BUTTERFLY r4, r5, r6, r7
    BUTTERFLY r8, r9, r10, r11
    ldrd    r2, r3, [sp, #FACTORS + 8]
    BUTTERFLY r4, r5, r8, r9
    ldrd    r2, r3, [sp, #FACTORS + 16]
    BUTTERFLY r6, r7, r10, r11
    STORE_LINES
    strd    r4, r5, [r0]
    ldr     r2, [sp, #BINS_END]
    add     r0, r0, r1, lsl #2
    cmp     r0, r2
    blo     2b
    ldr     r2, [sp, #COUNT]
    subs    r2, r2, #1
    str     r2, [sp, #COUNT]
    bne     1b
    add     sp, sp, #52
    pop     {r4-r11, pc}
    .size   mbx_fft_two_stages, . - mbx_fft_two_stages

/* A factor, and where that of the next k lies. */
.macro NEXT_FACTOR place, step
    ldr     r12, [sp, #\place]
    ldrd    r2, r3, [r12], #\step
    str     r12, [sp, #\place]
.endm

    .global mbx_fft_last_stages
    .type   mbx_fft_last_stages, %function
    .thumb_func
mbx_fft_last_stages:
    push    {r4-r11, r14}
    sub     sp, sp, #16
    lsl     r4, r1, #2
    add     r5, r2, r4
    strd    r2, r2, [sp]
    lsl     r1, r1, #1
    add     r6, r0, r1
    strd    r5, r6, [sp, #8]
1:  LOAD_LINES
    NEXT_FACTOR 0, 32
    BUTTERFLY r4, r5, r6, r7
    BUTTERFLY r8, r9, r10, r11
    NEXT_FACTOR 4, 16
    BUTTERFLY r4, r5, r8, r9
    NEXT_FACTOR 8, 16
    BUTTERFLY r6, r7, r10, r11
    STORE_LINES
    strd    r4, r5, [r0], #8
    ldr     r2, [sp, #12]
    cmp     r0, r2
    bne     1b
    add     sp, sp, #16
    pop     {r4-r11, pc}
    .size   mbx_fft_last_stages, . - mbx_fft_last_stages
