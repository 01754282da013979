/* A plugin of QEMU's TCG (API version 1, QEMU 6.2 and newer) that counts executed instructions, exactly.
 *
 *     -plugin count.so,out=FILE,mark=HEX,mark=HEX,...,stack=HEX-HEX
 *
 * Whenever code at a mark is reached, a segment ends and the next one begins. FILE tells, in hexadecimal:
 *     B id start length...   a block of translated code: its first address, then each instruction's bytes
 *     S mark                 a segment begins at this mark
 *     C id count taken       in the segment: how often a block ran, how often its end was left by a jump
 *     W address              the lowest address that was written in the stack, at the end
 * What runs before the first mark is not counted. The functions of QEMU that are used are declared here: Debian has no
 * package of its qemu-plugin.h. Source: QEMU's include/qemu/qemu-plugin.h of version 7.2.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info qemu_info_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_CB_NO_REGS = 0, QEMU_PLUGIN_MEM_W = 2 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*call)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, void (*call)(unsigned, void *), int flags,
                                          void *context);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *instruction,
                                      void (*call)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *), int flags,
                                      int access, void *context);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*call)(qemu_plugin_id_t, void *), void *context);
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                                               char **argv);
__attribute__((visibility("default"))) int qemu_plugin_version = 1;

#define MOST_MARKS 512

typedef struct block {
    struct block *next;
    uint64_t start, behind; /* behind: the address of what follows it in memory */
    uint64_t count, taken;
    unsigned id;
    bool marked;
} block;

static uint64_t marks[MOST_MARKS];
static unsigned mark_count, block_count;
static uint64_t stack_first, stack_end, lowest_write;
static block *blocks, *previous;
static bool counting;
static FILE *out;

static void end_segment(void)
{
    for (block *b = blocks; b != NULL; b = b->next) {
        if (b->count != 0) {
            fprintf(out, "C %x %llx %llx\n", b->id, (unsigned long long)b->count, (unsigned long long)b->taken);
            b->count = b->taken = 0;
        }
    }
}

static void on_execution(unsigned cpu, void *context)
{
    block *b = context;
    (void)cpu;
    if (previous != NULL && counting && b->start != previous->behind) {
        previous->taken++;
    }
    if (b->marked) {
        end_segment();
        fprintf(out, "S %llx\n", (unsigned long long)b->start);
        counting = true;
    }
    if (counting) {
        b->count++;
    }
    previous = b;
}

static void on_write(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *context)
{
    (void)cpu;
    (void)info;
    (void)context;
    if (address >= stack_first && address < stack_end && address < lowest_write) {
        lowest_write = address;
    }
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *translated)
{
    const size_t length = qemu_plugin_tb_n_insns(translated);
    block *b = calloc(1, sizeof *b);
    (void)id;
    if (b == NULL) {
        abort();
    }
    b->id = block_count++;
    b->start = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(translated, 0));
    b->next = blocks;
    blocks = b;
    for (unsigned i = 0; i < mark_count; i++) {
        b->marked |= marks[i] == b->start;
    }
    fprintf(out, "B %x %llx", b->id, (unsigned long long)b->start);
    for (size_t i = 0; i < length; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(translated, i);
        const size_t bytes = qemu_plugin_insn_size(instruction);
        fprintf(out, " %zx", bytes);
        b->behind = qemu_plugin_insn_vaddr(instruction) + bytes;
        if (stack_end != 0) {
            qemu_plugin_register_vcpu_mem_cb(instruction, on_write, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_W, NULL);
        }
    }
    fprintf(out, "\n");
    qemu_plugin_register_vcpu_tb_exec_cb(translated, on_execution, QEMU_PLUGIN_CB_NO_REGS, b);
}

static void on_exit_of_qemu(qemu_plugin_id_t id, void *context)
{
    (void)id;
    (void)context;
    end_segment();
    fprintf(out, "W %llx\n", (unsigned long long)lowest_write);
    fclose(out);
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        } else if (strncmp(argv[i], "mark=", 5) == 0 && mark_count < MOST_MARKS) {
            marks[mark_count++] = strtoull(argv[i] + 5, NULL, 16);
        } else if (strncmp(argv[i], "stack=", 6) == 0) {
            char *end = NULL;
            stack_first = strtoull(argv[i] + 6, &end, 16);
            stack_end = strtoull(end + 1, NULL, 16);
        } else {
            fprintf(stderr, "count: unknown or too many: %s\n", argv[i]);
            return -1;
        }
    }
    if (out == NULL) {
        fprintf(stderr, "count: out=FILE is missing or can't be written\n");
        return -1;
    }
    lowest_write = stack_end;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, NULL);
    return 0;
}
