/* The RP2040's second stage: the first 256 bytes of the flash. The ROM copies them to RAM, checks the last four, which are
 * the CRC-32 of the rest, and jumps to the first (RP2040 datasheet, section 2.8.1). It sets the flash interface up for
 * reads in place and enters the program whose vector table follows.
 *
 * Reads are those that every serial flash knows: command 03h, 24 bits of address, one data line, 32 bits at a time, at a
 * quarter of the system clock (datasheet of the W25Q16JV, section 8.2.6: at most 50 MHz).
 * Registers: RP2040 datasheet, section 4.10.13, SSI: #tab-registerlist_ssi. */
    .syntax unified
    .cpu cortex-m0plus
    .thumb

    .equ SSI_BASE, 0x18000000
    .equ SSI_CTRLR0, 0x00
    .equ SSI_CTRLR1, 0x04
    .equ SSI_SSIENR, 0x08
    .equ SSI_BAUDR, 0x14
    .equ SSI_SPI_CTRLR0_OFFSET, 0xf4
    .equ VTOR, 0xe000ed08
    .equ VECTORS, 0x10000100

    .section .boot2, "ax"
    .global mbx_boot2
    .type mbx_boot2, %function
    .thumb_func
mbx_boot2:
    ldr r3, ssi_base
    movs r1, #0
    str r1, [r3, #SSI_SSIENR]   /* off, or the others can't be written */
    movs r1, #4
    str r1, [r3, #SSI_BAUDR]
    ldr r1, ctrlr0
    str r1, [r3, #SSI_CTRLR0]
    ldr r1, spi_ctrlr0
    movs r0, #SSI_SPI_CTRLR0_OFFSET
    str r1, [r3, r0]
    movs r1, #0
    str r1, [r3, #SSI_CTRLR1]   /* one datum a read */
    movs r1, #1
    str r1, [r3, #SSI_SSIENR]
    ldr r0, vectors
    ldr r1, vtor
    str r0, [r1]
    ldr r1, [r0]
    msr msp, r1
    ldr r1, [r0, #4]
    bx r1
    .align 2
ssi_base:
    .word SSI_BASE
ctrlr0:
    .word (31 << 16) | (3 << 8)             /* DFS_32: 32 bits; TMOD: EEPROM read; SPI_FRF: standard */
spi_ctrlr0:
    .word (0x03 << 24) | (2 << 8) | (6 << 2) /* XIP_CMD; INST_L: 8 bits; ADDR_L: 24 bits; no wait */
vectors:
    .word VECTORS
vtor:
    .word VTOR
    .org 252, 0
    .word 0x3D0D89ED /* the checksum; a test computes it again */
