/* The first instructions of a RISC-V core in QEMU's machine virt, which jumps to the start of its memory. A trap prints its
 * cause and ends the run with exit code 99.
 * Source: The RISC-V Instruction Set Manual, volume II, section 3.1: mtvec, mcause, mepc. */
    .option arch, +zicsr
    .section .vectors, "ax"
    .global mbx_entry
mbx_entry:
    la sp, mbx_stack_top
    la t0, mbx_trap
    csrw mtvec, t0
    j mbx_reset

/* A semihosting call that nobody serves, the first one: it returns -1, and later ones are not made. */
    .balign 4
mbx_trap:
    csrr t0, mcause
    addi t0, t0, -3 /* breakpoint */
    bnez t0, 1f
    la t0, semihosting_is_missing
    lw a0, 0(t0)
    bnez a0, 1f
    li a0, 1
    sw a0, 0(t0)
    li a0, -1
    csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    mret
1:
    csrr a0, mcause
    csrr a1, mepc
    j mbx_fault_at
