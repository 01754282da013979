/* A board as QEMU emulates it: the request and the response are files, by semihosting. */
#include "mbx_session.h"
#include "semihosting.h"

static const char request_name[] = "mbx-request.bin";
static const char response_name[] = "mbx-response.bin";

static int32_t request = -1;

int mbx_session_waits(void)
{
    if (request < 0) {
        request = semihosting_open(request_name, sizeof request_name - 1u, 1u);
    }
    return request >= 0;
}

int mbx_session_read(void *data, uint32_t bytes)
{
    if (!mbx_session_waits()) {
        semihosting_write_text("mbx: there is no mbx-request.bin; start this with mbx-deploy run\n");
        return 0;
    }
    return bytes == 0u || semihosting_read(request, data, bytes) == 0u;
}

int mbx_session_write(const void *data, uint32_t bytes)
{
    static int32_t handle = -1;
    if (handle < 0) {
        handle = semihosting_open(response_name, sizeof response_name - 1u, 5u);
    }
    return handle >= 0 && (bytes == 0u || semihosting_write(handle, data, bytes) == 0u);
}
