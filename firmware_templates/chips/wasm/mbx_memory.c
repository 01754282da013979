/* One instruction each, of WebAssembly's bulk memory (Chrome 75, Firefox 79, Safari 15). */
#include <string.h>

#ifndef __wasm_bulk_memory__
#error "need -mbulk-memory: without it these functions would call themselves"
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    return __builtin_memcpy(to, from, bytes);
}

void *memmove(void *to, const void *from, size_t bytes)
{
    return __builtin_memmove(to, from, bytes);
}

void *memset(void *to, int value, size_t bytes)
{
    return __builtin_memset(to, value, bytes);
}
