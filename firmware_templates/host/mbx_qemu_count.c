/* A plugin of QEMU that counts the instructions of a whole run, and writes their number to a file when it ends.
 *
 * QEMU translates blocks of instructions and runs them from a cache: each block adds its length whenever it begins.
 * Loaded by mbx_deploy/instructions.py: -plugin file=mbx_qemu_count.so,out=FILE.
 * Source: QEMU's documentation, "QEMU TCG Plugins", API version 1; its header is not packaged, so what is used of it is
 * declared here.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, void (*begins)(unsigned int cpu, void *user),
                                          int flags, void *user);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*ends)(qemu_plugin_id_t id, void *user), void *user);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
                                                               char **argv);

static const char file_key[] = "out=";
static uint64_t instructions;
static char file_name[4096];

static void block_begins(unsigned int cpu, void *user)
{
    (void)cpu;
    instructions += (uint64_t)(uintptr_t)user;
}

static void block_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, block_begins, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void run_ends(qemu_plugin_id_t id, void *user)
{
    FILE *file = fopen(file_name, "w");

    (void)id;
    (void)user;
    if (file != NULL) {
        fprintf(file, "%" PRIu64 "\n", instructions);
        fclose(file);
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    const size_t key_length = sizeof file_key - 1u;

    (void)info;
    if (argc != 1 || strncmp(argv[0], file_key, key_length) != 0 ||
        strlen(argv[0]) - key_length >= sizeof file_name) {
        return 1;
    }
    strcpy(file_name, argv[0] + key_length);
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    qemu_plugin_register_atexit_cb(id, run_ends, NULL);
    return 0;
}
