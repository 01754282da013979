/* The mel filters: sums of products of 64 bits and 32, each without its low word.
 *
 * void mbx_mel_rows(const mbx_bin *bins, const uint16_t *first, const uint16_t *count, const uint32_t *weights_q32,
 *                   mbx_mel *mels, uint32_t n_mels)
 *
 * UMAAL adds two words to a product: the sum's low word and what the low word of a power leaves.
 */
    .syntax unified
    .thumb
    .text

    .set    BINS, 0
    .set    FIRST, 4
    .set    COUNT, 8
    .set    MELS, 48
    .set    N_MELS, 52

/* r8, r9: the sum. r0, r1 free. */
.macro ADD_PRODUCT low, high, weight
    umull   r1, r0, \low, \weight
    umaal   r8, r0, \high, \weight
    add     r9, r9, r0
.endm

    .global mbx_mel_rows
    .type   mbx_mel_rows, %function
    .thumb_func
mbx_mel_rows:
    push    {r4-r11, r14}
    sub     sp, sp, #12
    stm     sp, {r0, r1, r2}
    ldr     r2, [sp, #MELS]
    ldr     r4, [sp, #N_MELS]
    add     r4, r2, r4, lsl #3
    str     r4, [sp, #N_MELS] /* where they end */
1:  ldm     sp, {r4, r5, r6}
    ldrh    r7, [r5], #2
    ldrh    r14, [r6], #2
    strd    r5, r6, [sp, #FIRST]
    add     r4, r4, r7, lsl #3
    movs    r0, #0
    mov     r8, r0
    mov     r9, r0
    subs    r14, r14, #2
    blo     3f
2:  ldrd    r5, r6, [r4], #8
    ldrd    r10, r11, [r4], #8
    ldrd    r7, r12, [r3], #8
    ADD_PRODUCT r5, r6, r7
    ADD_PRODUCT r10, r11, r12
    subs    r14, r14, #2
    bhs     2b
3:  adds    r14, r14, #2
    beq     4f
    ldrd    r5, r6, [r4]
    ldr     r7, [r3], #4
    ADD_PRODUCT r5, r6, r7
4:  strd    r8, r9, [r2], #8
    ldr     r4, [sp, #N_MELS]
    cmp     r2, r4
    bne     1b
    add     sp, sp, #12
    pop     {r4-r11, pc}
    .size   mbx_mel_rows, . - mbx_mel_rows
