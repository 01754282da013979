/* Start-up for a RISC-V core under QEMU. */
#include <stdint.h>

#include "semihosting.h"

extern uint32_t mbx_data_load[];
extern uint32_t mbx_data_start[];
extern uint32_t mbx_data_end[];
extern uint32_t mbx_bss_start[];
extern uint32_t mbx_bss_end[];

int main(void);
void mbx_reset(void);
void mbx_fault_at(uint32_t cause, uint32_t place);

#define FAULT_EXIT_CODE 99u

static void write_hex(uint32_t value)
{
    char text[10];
    for (int i = 7; i >= 0; i--) {
        text[i] = "0123456789abcdef"[value & 15u];
        value >>= 4;
    }
    text[8] = ' ';
    text[9] = '\0';
    semihosting_write_text(text);
}

void mbx_fault_at(uint32_t cause, uint32_t place)
{
    semihosting_write_text("mbx: fault, mcause mepc: ");
    write_hex(cause);
    write_hex(place);
    semihosting_write_text("\n");
    semihosting_exit(FAULT_EXIT_CODE);
}

void mbx_reset(void)
{
    const uint32_t *from = mbx_data_load;
    for (uint32_t *to = mbx_data_start; to != mbx_data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = mbx_bss_start; to != mbx_bss_end; to++) {
        *to = 0;
    }
    semihosting_exit((uint32_t)main());
}
