/* Semihosting: files and exit codes of the machine that runs the emulator or the debugger.
 * Source: Arm, "Semihosting for AArch32 and AArch64", the operations' numbers and argument blocks; RISC-V Semihosting, its
 * sequence of instructions. */
#ifndef MBX_SEMIHOSTING_H
#define MBX_SEMIHOSTING_H

#include <stdint.h>

/* Set by the fault handler when a call found neither an emulator nor a debugger that serves it. Every call fails then. */
extern int semihosting_is_missing;

void semihosting_write_text(const char *text);
void semihosting_exit(uint32_t code);

/* Returns a handle, or -1. mode: 1 is "rb", 5 is "wb". */
int32_t semihosting_open(const char *name, uint32_t length, uint32_t mode);

/* Both return the bytes that were not moved. */
uint32_t semihosting_read(int32_t handle, void *data, uint32_t bytes);
uint32_t semihosting_write(int32_t handle, const void *data, uint32_t bytes);

#endif
