/* int64_t mbx_dot_row(const int32_t *row, const int32_t *values, uint32_t count): the exact sum of row[n] * values[n] */
    .syntax unified
    .thumb
    .text
    .global mbx_dot_row
    .type   mbx_dot_row, %function
    .thumb_func
mbx_dot_row:
    push    {r4-r11, r14}
    movs    r3, #0
    mov     r12, r3
    lsrs    r14, r2, #2
    beq     2f
1:  ldm     r0!, {r4-r7}
    ldm     r1!, {r8-r11}
    smlal   r3, r12, r4, r8
    smlal   r3, r12, r5, r9
    smlal   r3, r12, r6, r10
    smlal   r3, r12, r7, r11
    subs    r14, r14, #1
    bne     1b
2:  ands    r2, r2, #3
    beq     4f
3:  ldr     r4, [r0], #4
    ldr     r5, [r1], #4
    smlal   r3, r12, r4, r5
    subs    r2, r2, #1
    bne     3b
4:  mov     r0, r3
    mov     r1, r12
    pop     {r4-r11, pc}
    .size   mbx_dot_row, . - mbx_dot_row
