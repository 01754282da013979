/* A ring of bytes between an interrupt and the main loop: one writer, one reader, neither waits.
 *
 * size_bytes is a power of two. Only the writer changes written, only the reader changes read; both count modulo 2^32.
 */
#ifndef MBX_BYTE_RING_H
#define MBX_BYTE_RING_H

#include <stdint.h>

typedef struct {
    uint8_t *bytes;
    uint32_t size_bytes;
    volatile uint32_t written;
    volatile uint32_t read;
} mbx_byte_ring;

/* Returns 1, or 0 where the ring is full. */
static inline int mbx_byte_ring_put(mbx_byte_ring *self, uint8_t byte)
{
    const uint32_t written = self->written;
    if (written - self->read == self->size_bytes) {
        return 0;
    }
    self->bytes[written & (self->size_bytes - 1u)] = byte;
    __asm volatile("" ::: "memory"); /* the byte first, then the count that publishes it */
    self->written = written + 1u;
    return 1;
}

/* Returns the oldest byte, or -1 where there is none. */
static inline int mbx_byte_ring_get(mbx_byte_ring *self)
{
    const uint32_t read = self->read;
    if (read == self->written) {
        return -1;
    }
    __asm volatile("" ::: "memory");
    const int byte = self->bytes[read & (self->size_bytes - 1u)];
    __asm volatile("" ::: "memory"); /* the byte is out before its place is given back */
    self->read = read + 1u;
    return byte;
}

#endif
