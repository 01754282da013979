/* Rows of the DCT that see the same values: the exact sum of each row's products, rounded from Q55 to Q16.
 *
 * void mbx_dot_rows(const int32_t *row, const int32_t *values, uint32_t count, int32_t *output, uint32_t step,
 *                   uint32_t rows)
 *
 * row     [rows][count]
 * values  [count]
 * output  of row i at output[step * i]
 */
    .syntax unified
    .thumb
    .text

    .set    HALF_HIGH, 1 << (39 - 1 - 32) /* the high word of what rounds */
    .set    SHIFT_HIGH, 39 - 32

    .set    VALUES, 0
    .set    EIGHTS, 4
    .set    REST, 8
    .set    STEP, 48
    .set    ROWS, 52

.macro FOUR
    ldm     r0!, {r4-r7}
    ldm     r1!, {r8-r11}
    smlal   r3, r12, r4, r8
    smlal   r3, r12, r5, r9
    smlal   r3, r12, r6, r10
    smlal   r3, r12, r7, r11
.endm

    .global mbx_dot_rows
    .type   mbx_dot_rows, %function
    .thumb_func
mbx_dot_rows:
    push    {r4-r11, r14}
    sub     sp, sp, #12
    lsrs    r4, r2, #3
    and     r5, r2, #7
    strd    r1, r4, [sp, #VALUES]
    str     r5, [sp, #REST]
    mov     r2, r3
1:  ldrd    r1, r14, [sp, #VALUES] /* and EIGHTS */
    movs    r3, #0
    mov     r12, #HALF_HIGH
    cmp     r14, #0
    beq     3f
2:  FOUR
    FOUR
    subs    r14, r14, #1
    bne     2b
3:  ldr     r14, [sp, #REST]
    cmp     r14, #0
    beq     5f
4:  ldr     r4, [r0], #4
    ldr     r5, [r1], #4
    smlal   r3, r12, r4, r5
    subs    r14, r14, #1
    bne     4b
5:  ldrd    r4, r5, [sp, #STEP] /* and ROWS */
    asr     r12, r12, #SHIFT_HIGH
    str     r12, [r2]
    add     r2, r2, r4, lsl #2
    subs    r5, r5, #1
    str     r5, [sp, #ROWS]
    bne     1b
    add     sp, sp, #12
    pop     {r4-r11, pc}
    .size   mbx_dot_rows, . - mbx_dot_rows
