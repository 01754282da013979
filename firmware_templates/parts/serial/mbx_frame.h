/* Frames on a serial line on which bytes may be lost, changed, repeated or swapped: each is whole and right, or not there.
 *
 *     0x00 | COBS( version u8, type u8, sequence u16, body, CRC-32 of all of these u32 ) | 0x00
 *
 * Numbers are little-endian. COBS (Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1999) leaves no zero in a frame,
 * so that a reader finds the next one behind any damage. The CRC is zlib's (polynomial 0xEDB88320, reflected).
 * Twin: mbx_deploy/serial/frames.py.
 */
#ifndef MBX_FRAME_H
#define MBX_FRAME_H

#include <stdint.h>

#define MBX_FRAME_VERSION 1u
#define MBX_FRAME_MAX_BODY_BYTES 256u
#define MBX_FRAME_HEADER_BYTES 4u
#define MBX_FRAME_PLAIN_BYTES (MBX_FRAME_HEADER_BYTES + MBX_FRAME_MAX_BODY_BYTES + 4u)
#define MBX_FRAME_ENCODED_BYTES (MBX_FRAME_PLAIN_BYTES + 2u) /* COBS adds a byte, and one for each 254 */

/* zlib's crc32(): crc is 0 at first, then what the call before returned. */
uint32_t mbx_crc32(uint32_t crc, const void *data, uint32_t size);

typedef struct {
    uint8_t bytes[MBX_FRAME_ENCODED_BYTES]; /* of the frame that comes in; decoded in place */
    uint32_t count;
    uint32_t damaged; /* frames that were dropped */
    uint8_t overlong;
} mbx_frame_reader;

/* Takes a byte of the line. Returns the number of plain bytes, header and body, in self->bytes when it ends a frame that is
 * whole, else 0. They stay until the next call. */
uint32_t mbx_frame_take(mbx_frame_reader *self, uint8_t byte);

typedef struct {
    uint8_t bytes[MBX_FRAME_ENCODED_BYTES + 2u];
    uint32_t count;
    uint32_t block; /* place of the length of the block that is being written */
    uint32_t plain; /* bytes put so far */
    uint32_t crc;
    uint8_t overlong;
} mbx_frame_writer;

/* A frame is begun, put together, and ended; it lies in self->bytes then. No more than MBX_FRAME_MAX_BODY_BYTES fit: what
 * is put beyond them is left out, and so is the frame, whose count is 0. */
void mbx_frame_begin(mbx_frame_writer *self, uint8_t type, uint16_t sequence);
void mbx_frame_put(mbx_frame_writer *self, const void *data, uint32_t size);
void mbx_frame_put_u8(mbx_frame_writer *self, uint32_t value);
void mbx_frame_put_u16(mbx_frame_writer *self, uint32_t value);
void mbx_frame_put_u32(mbx_frame_writer *self, uint32_t value);
void mbx_frame_end(mbx_frame_writer *self);

static inline uint32_t mbx_get_u16(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8;
}

static inline uint32_t mbx_get_u32(const uint8_t *bytes)
{
    return mbx_get_u16(bytes) | mbx_get_u16(bytes + 2) << 16;
}

#endif
