/* Any request to the session that runs a firmware on test data: it is served, or ends. */
#include <string.h>

#include "kws.h"
#include "mbx_session.h"

static const uint8_t *request;
static size_t left;
static uint64_t written;

int mbx_session_read(void *data, uint32_t bytes)
{
    if (bytes > left) {
        return 0;
    }
    memcpy(data, request, bytes);
    request += bytes;
    left -= bytes;
    return 1;
}

int mbx_session_write(const void *data, uint32_t bytes)
{
    const uint8_t *all = data;
    for (uint32_t i = 0; i < bytes; i++) {
        written += all[i]; /* each is there to be read */
    }
    return 1;
}

int mbx_session_waits(void)
{
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static kws_t recognizer;
    memset(&recognizer, 0x5A, sizeof recognizer);
    if (kws_init(&recognizer) != MBX_OK) {
        __builtin_trap();
    }
    request = data;
    left = size;
    (void)mbx_session_serve(&recognizer.core);
    return 0;
}
