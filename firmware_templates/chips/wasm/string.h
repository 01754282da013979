/* All that the runtime asks of a C library; mbx_memory.c has it. */
#ifndef MBX_STRING_H
#define MBX_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

#endif
