/* The host: a request on stdin, the response on stdout. */
#include <stdio.h>

#include "mbx_session.h"

int mbx_session_waits(void)
{
    return 1;
}

int mbx_session_read(void *data, uint32_t bytes)
{
    return fread(data, 1, bytes, stdin) == bytes;
}

int mbx_session_write(const void *data, uint32_t bytes)
{
    return fwrite(data, 1, bytes, stdout) == bytes;
}
