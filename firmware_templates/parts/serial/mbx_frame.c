#include "mbx_frame.h"

/* Bits 0 to 3 of the remainder, through the polynomial: four bits a step, 64 bytes of table. */
static const uint32_t crc_of_nibble[16] = {
    0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
    0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
};

uint32_t mbx_crc32(uint32_t crc, const void *data, uint32_t size)
{
    const uint8_t *bytes = data;
    crc = ~crc;
    for (uint32_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ crc_of_nibble[crc & 15u];
        crc = crc >> 4 ^ crc_of_nibble[crc & 15u];
    }
    return ~crc;
}

/* Takes COBS off, in place. Returns the plain bytes, 0 where a block is longer than what there is. */
static uint32_t decode(uint8_t *bytes, uint32_t count)
{
    uint32_t from = 0, to = 0;
    while (from < count) {
        const uint32_t block = bytes[from]; /* 1 to 255: a zero ends the frame before it gets here */
        if (block > count - from) {
            return 0;
        }
        for (uint32_t i = 1; i < block; i++) {
            bytes[to++] = bytes[from + i];
        }
        from += block;
        if (block != 0xFFu && from < count) {
            bytes[to++] = 0;
        }
    }
    return to;
}

/* The plain bytes of a complete frame without its CRC, 0 where it is none. */
static uint32_t check(mbx_frame_reader *self)
{
    const uint32_t plain = self->overlong ? 0 : decode(self->bytes, self->count);
    if (plain < MBX_FRAME_HEADER_BYTES + 4u || plain > MBX_FRAME_PLAIN_BYTES) {
        return 0;
    }
    return mbx_crc32(0, self->bytes, plain - 4u) == mbx_get_u32(self->bytes + plain - 4u) ? plain - 4u : 0;
}

uint32_t mbx_frame_take(mbx_frame_reader *self, uint8_t byte)
{
    if (byte != 0u) {
        if (self->count < MBX_FRAME_ENCODED_BYTES) {
            self->bytes[self->count++] = byte;
        } else {
            self->overlong = 1;
        }
        return 0;
    }
    const uint32_t plain = check(self);
    if (plain == 0u && self->count != 0u) {
        self->damaged++;
    }
    self->count = 0;
    self->overlong = 0;
    return plain;
}

static void put_plain(mbx_frame_writer *self, uint8_t byte)
{
    if (self->plain == MBX_FRAME_PLAIN_BYTES) {
        self->overlong = 1;
        return;
    }
    self->plain++;
    if (byte != 0u) {
        self->bytes[self->count++] = byte;
    }
    const uint32_t length = self->count - self->block;
    if (byte == 0u || length == 0xFFu) {
        self->bytes[self->block] = (uint8_t)length;
        self->block = self->count++;
    }
}

void mbx_frame_begin(mbx_frame_writer *self, uint8_t type, uint16_t sequence)
{
    self->bytes[0] = 0;
    self->block = 1;
    self->count = 2;
    self->plain = 0;
    self->overlong = 0;
    self->crc = 0;
    mbx_frame_put_u8(self, MBX_FRAME_VERSION);
    mbx_frame_put_u8(self, type);
    mbx_frame_put_u16(self, sequence);
}

void mbx_frame_put(mbx_frame_writer *self, const void *data, uint32_t size)
{
    const uint8_t *bytes = data;
    self->crc = mbx_crc32(self->crc, data, size);
    for (uint32_t i = 0; i < size; i++) {
        put_plain(self, bytes[i]);
    }
}

void mbx_frame_put_u8(mbx_frame_writer *self, uint32_t value)
{
    const uint8_t bytes[1] = {(uint8_t)value};
    mbx_frame_put(self, bytes, sizeof bytes);
}

void mbx_frame_put_u16(mbx_frame_writer *self, uint32_t value)
{
    const uint8_t bytes[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
    mbx_frame_put(self, bytes, sizeof bytes);
}

void mbx_frame_put_u32(mbx_frame_writer *self, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    mbx_frame_put(self, bytes, sizeof bytes);
}

void mbx_frame_end(mbx_frame_writer *self)
{
    mbx_frame_put_u32(self, self->crc);
    if (self->overlong) {
        self->count = 0;
        return;
    }
    self->bytes[self->block] = (uint8_t)(self->count - self->block);
    self->bytes[self->count++] = 0;
}
