/* Any pieces of an item, in any order: what counts is what belongs there, and the count and CRC are those of it. */
#include <stdlib.h>
#include <string.h>

#include "kws.h"
#include "mbx_frame.h"
#include "mbx_remote.h"

#define NEED(condition)       \
    do {                      \
        if (!(condition)) {   \
            __builtin_trap(); \
        }                     \
    } while (0)

typedef struct {
    const uint8_t *data;
    size_t left;
} input;

static uint32_t take(input *self, size_t bytes)
{
    uint32_t value = 0;
    for (size_t i = 0; i < bytes && self->left != 0u; i++, self->left--) {
        value |= (uint32_t)*self->data++ << 8u * i;
    }
    return value;
}

/* A number that is right as often as not. */
static uint32_t near(input *self, uint32_t right)
{
    const uint32_t how = take(self, 1);
    return how < 192u ? right : how < 224u ? right + how - 208u : take(self, 4);
}

static void give(mbx_remote *remote, input *self)
{
    const uint32_t size = take(self, 1), given = size < self->left ? size : (uint32_t)self->left;
    uint8_t *bytes = calloc(size + 1u, 1);
    NEED(bytes != NULL);
    memcpy(bytes + 1, self->data, given); /* the piece's end is that of the memory */
    self->data += given;
    self->left -= given;
    const uint32_t token = near(self, remote->token), windows = near(self, remote->windows);
    mbx_remote_take(remote, token, (uint16_t)windows, near(self, remote->received), bytes + 1, size);
    free(bytes);
}

static void check(const mbx_remote *remote)
{
    NEED(remote->state <= MBX_REMOTE_FAILED && remote->checksum_count <= MBX_REMOTE_MAX_CHECKSUMS);
    NEED(remote->state != MBX_REMOTE_FAILED || remote->failure != MBX_REMOTE_OK);
    if (!mbx_remote_has_result(remote, remote->token, remote->windows)) {
        return;
    }
    NEED(remote->label < KWS_NUM_CLASSES && remote->score_q15 <= 32768u);
    const uint32_t kept = mbx_remote_kept_feature_bytes(remote);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < kept; i++) {
        sum += mbx_remote_feature(remote, i);
    }
    NEED(sum <= 255u * kept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static kws_t recognizer;
    static mbx_remote remote;
    input left = {data, size};
    memset(&recognizer, 0x5A, sizeof recognizer);
    memset(&remote, 0, sizeof remote);
    NEED(kws_init(&recognizer) == MBX_OK);
    mbx_remote_init(&remote, &recognizer.core);
    while (left.left != 0u) {
        switch (take(&left, 1) % 6u) {
        case 0: {
            const uint32_t token = take(&left, 1), kind = take(&left, 1), block = take(&left, 2);
            mbx_remote_begin(&remote, token, (uint8_t)(kind % 4u), (uint16_t)block);
            break;
        }
        case 1: {
            const uint32_t token = near(&left, remote.token), windows = near(&left, remote.windows);
            const uint32_t total = near(&left, remote.received);
            mbx_remote_finish(&remote, token, (uint16_t)windows, total, near(&left, remote.crc));
            break;
        }
        case 2:
            (void)mbx_remote_end(&remote);
            break;
        default:
            give(&remote, &left);
        }
        check(&remote);
    }
    return 0;
}
