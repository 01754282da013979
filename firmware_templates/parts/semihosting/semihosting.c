#include "semihosting.h"

enum { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };

#define ADP_STOPPED_APPLICATION_EXIT 0x20026u

int semihosting_is_missing;

static int32_t semihosting_call(uint32_t operation, const void *argument)
{
    if (semihosting_is_missing) {
        return -1;
    }
#if defined(__riscv)
    /* Three instructions of four bytes each, in one page. The start-up's handler, where it returns for this, uses t0. */
    register uint32_t a0 __asm("a0") = operation;
    register const void *a1 __asm("a1") = argument;
    __asm volatile(".option push\n.option norvc\n.balign 16\nslli zero, zero, 0x1f\nebreak\nsrai zero, zero, 7\n.option pop"
                   : "+r"(a0)
                   : "r"(a1)
                   : "t0", "memory");
    return (int32_t)a0;
#else
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
#endif
}

void semihosting_write_text(const char *text)
{
    (void)semihosting_call(SYS_WRITE0, text);
}

void semihosting_exit(uint32_t code)
{
    const uint32_t block[2] = {ADP_STOPPED_APPLICATION_EXIT, code};
    (void)semihosting_call(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}

int32_t semihosting_open(const char *name, uint32_t length, uint32_t mode)
{
    const uint32_t block[3] = {(uint32_t)(uintptr_t)name, mode, length};
    return semihosting_call(SYS_OPEN, block);
}

uint32_t semihosting_read(int32_t handle, void *data, uint32_t bytes)
{
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)data, bytes};
    return (uint32_t)semihosting_call(SYS_READ, block);
}

uint32_t semihosting_write(int32_t handle, const void *data, uint32_t bytes)
{
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)data, bytes};
    return (uint32_t)semihosting_call(SYS_WRITE, block);
}
