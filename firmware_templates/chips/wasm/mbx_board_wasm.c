/* WebAssembly: a request is read from, and its response written to, whatever holds the instance. */
#include "mbx_live.h"
#include "mbx_session.h"

#define IMPORT(name) __attribute__((import_module("session"), import_name(name)))

/* Each moves exactly bytes of the instance's memory, or returns 0. */
IMPORT("read") int session_read(void *data, uint32_t bytes);
IMPORT("write") int session_write(const void *data, uint32_t bytes);

int mbx_session_waits(void)
{
    return 1;
}

int mbx_session_read(void *data, uint32_t bytes)
{
    return session_read(data, bytes);
}

int mbx_session_write(const void *data, uint32_t bytes)
{
    return session_write(data, bytes);
}

/* Serves one request, as mbx_session_serve(). What was heard before is forgotten. */
__attribute__((export_name("mbx_serve"))) int mbx_serve(void)
{
    mbx_recognizer *served = mbx_live_recognizer();
    return served == NULL ? 1 : mbx_session_serve(served);
}
