/* Any bytes on the line: a frame that is found is one that its writer would have sent. And any body, put in any pieces, is
 * found again, or left out whole where it is too long. */
#include <string.h>

#include "mbx_frame.h"

#define NEED(condition)       \
    do {                      \
        if (!(condition)) {   \
            __builtin_trap(); \
        }                     \
    } while (0)

static mbx_frame_reader reader;

/* Returns the plain bytes of the one frame that a writer holds, 0 for none. */
static uint32_t reread(mbx_frame_reader *again, const mbx_frame_writer *writer)
{
    uint32_t found = 0;
    memset(again, 0, sizeof *again);
    NEED(writer->count <= sizeof writer->bytes);
    for (uint32_t i = 0; i < writer->count; i++) {
        NEED(found == 0u);
        found = mbx_frame_take(again, writer->bytes[i]);
    }
    NEED(again->damaged == 0u);
    return found;
}

static void check_found(uint32_t plain)
{
    static mbx_frame_writer writer;
    static mbx_frame_reader again;
    NEED(plain >= MBX_FRAME_HEADER_BYTES && plain <= MBX_FRAME_HEADER_BYTES + MBX_FRAME_MAX_BODY_BYTES);
    if (reader.bytes[0] != MBX_FRAME_VERSION) {
        return; /* a writer sends its own version only */
    }
    mbx_frame_begin(&writer, reader.bytes[1], (uint16_t)mbx_get_u16(reader.bytes + 2));
    mbx_frame_put(&writer, reader.bytes + MBX_FRAME_HEADER_BYTES, plain - MBX_FRAME_HEADER_BYTES);
    mbx_frame_end(&writer);
    NEED(reread(&again, &writer) == plain && memcmp(again.bytes, reader.bytes, plain) == 0);
}

static void write_in_pieces(const uint8_t *data, size_t size)
{
    static mbx_frame_writer writer;
    static mbx_frame_reader again;
    uint32_t put = 0;
    mbx_frame_begin(&writer, data[0], (uint16_t)(data[0] * 257u));
    for (size_t at = 1; at < size;) {
        const size_t piece = 1u + data[at] % 40u, count = piece < size - at ? piece : size - at;
        mbx_frame_put(&writer, data + at, (uint32_t)count);
        put += (uint32_t)count;
        at += count;
    }
    mbx_frame_end(&writer);
    const uint32_t found = reread(&again, &writer);
    NEED(found == (put <= MBX_FRAME_MAX_BODY_BYTES ? MBX_FRAME_HEADER_BYTES + put : 0u));
    NEED(found == 0u || memcmp(again.bytes + MBX_FRAME_HEADER_BYTES, data + 1, put) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memset(&reader, 0, sizeof reader);
    for (size_t i = 0; i < size; i++) {
        const uint32_t plain = mbx_frame_take(&reader, data[i]);
        if (plain != 0u) {
            check_found(plain);
        }
    }
    if (size != 0u) {
        write_in_pieces(data, size);
    }
    return 0;
}
