/* Reads bytes from stdin as a device does; writes each whole frame again, as it would send it, and the count of damaged. */
#include <stdio.h>

#include "mbx_frame.h"

int main(void)
{
    static mbx_frame_reader reader;
    static mbx_frame_writer writer;
    int byte;
    while ((byte = getchar()) != EOF) {
        const uint32_t plain = mbx_frame_take(&reader, (uint8_t)byte);
        if (plain != 0u) {
            const uint8_t *from = reader.bytes;
            mbx_frame_begin(&writer, from[1], (uint16_t)mbx_get_u16(from + 2));
            mbx_frame_put(&writer, from + MBX_FRAME_HEADER_BYTES, plain - MBX_FRAME_HEADER_BYTES);
            mbx_frame_end(&writer);
            fwrite(writer.bytes, 1, writer.count, stdout);
        }
    }
    fprintf(stderr, "%u\n", (unsigned)reader.damaged);
    return 0;
}
