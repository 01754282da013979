/* Runs a file of kernel calls on a core. Twin: tests/kernel_batch.py, which writes the file and adds kernels[].
 *
 * Every input, the output and the working memory lie between guard bytes. For each call the answer is a status, then the
 * output: bit 0 the output's surroundings were written, bit 1 those of the working memory, bit 2 and 3 an input's, or
 * the input itself.
 */
#include <stdint.h>
#include <string.h>

#include "mbx_session.h"

#define GUARD_BYTES 64u
#define GUARD 0x5A

typedef void (*kernel_function)(const void *, void *, void *, void *, void *);
extern const kernel_function kernels[];

typedef struct {
    uint32_t kernel;
    uint32_t constants_bytes; /* the struct first */
    uint32_t pointers;        /* in the struct */
    uint32_t inputs;
    uint32_t input_bytes[2];
    uint32_t output_bytes;
    uint32_t scratch_bytes;
    uint32_t overwritten; /* the number of the input in whose place the output lies, from 1 on; 0: none */
    uint32_t lead;        /* by which the output then begins before it */
} job;

static uint8_t memory[300000] __attribute__((aligned(16)));
static uint32_t used;

static uint8_t *place(uint32_t bytes)
{
    uint8_t *at = memory + used + GUARD_BYTES;
    used += (bytes + 2u * GUARD_BYTES + 15u) & ~15u;
    memset(at - GUARD_BYTES, GUARD, bytes + 2u * GUARD_BYTES);
    return at;
}

static int is_guarded(const uint8_t *at, uint32_t bytes)
{
    for (uint32_t i = 0; i < GUARD_BYTES; i++) {
        if (at[(int32_t)i - (int32_t)GUARD_BYTES] != GUARD || at[bytes + i] != GUARD) {
            return 0;
        }
    }
    return 1;
}

static int run(void)
{
    job j;
    uint32_t pointers[8][2]; /* where in the struct, to where in the constants */
    uint8_t *inputs[2] = {0, 0};
    uint8_t *copies[2] = {0, 0};
    if (!mbx_session_read(&j, sizeof j) || !mbx_session_read(pointers, j.pointers * sizeof pointers[0])) {
        return 0;
    }
    used = 0;
    uint8_t *constants = place(j.constants_bytes);
    if (!mbx_session_read(constants, j.constants_bytes)) {
        return 0;
    }
    for (uint32_t i = 0; i < j.pointers; i++) {
        const uint32_t address = (uint32_t)(uintptr_t)(constants + pointers[i][1]);
        memcpy(constants + pointers[i][0], &address, sizeof address);
    }
    uint32_t sizes[2] = {0, 0};
    uint32_t leads[2] = {0, 0};
    for (uint32_t i = 0; i < j.inputs; i++) {
        leads[i] = j.overwritten == i + 1u ? j.lead : 0u;
        sizes[i] = leads[i] + j.input_bytes[i];
        if (j.overwritten == i + 1u && j.output_bytes > sizes[i]) {
            sizes[i] = j.output_bytes;
        }
        inputs[i] = place(sizes[i]) + leads[i];
        copies[i] = place(j.input_bytes[i]);
        if (!mbx_session_read(copies[i], j.input_bytes[i])) {
            return 0;
        }
        memcpy(inputs[i], copies[i], j.input_bytes[i]);
    }
    uint8_t *output = j.overwritten != 0u ? inputs[j.overwritten - 1u] - j.lead : place(j.output_bytes);
    uint8_t *scratch = place(j.scratch_bytes);
    void *arguments[4] = {inputs[0], inputs[1], output, scratch};
    if (j.inputs == 1u) {
        arguments[1] = output;
        arguments[2] = scratch;
    }
    kernels[j.kernel](constants, arguments[0], arguments[1], arguments[2], arguments[3]);
    uint32_t status = is_guarded(scratch, j.scratch_bytes) ? 0u : 2u;
    if (j.overwritten == 0u && !is_guarded(output, j.output_bytes)) {
        status |= 1u;
    }
    for (uint32_t i = 0; i < j.inputs; i++) {
        const int same = j.overwritten == i + 1u || memcmp(inputs[i], copies[i], j.input_bytes[i]) == 0;
        if (!same || !is_guarded(inputs[i] - leads[i], sizes[i])) {
            status |= 4u << i;
        }
    }
    return mbx_session_write(&status, sizeof status) && mbx_session_write(output, j.output_bytes);
}

int main(void)
{
    uint32_t count;
    if (!mbx_session_read(&count, sizeof count)) {
        return 1;
    }
    for (; count != 0u; count--) {
        if (!run()) {
            return 1;
        }
    }
    return 0;
}
