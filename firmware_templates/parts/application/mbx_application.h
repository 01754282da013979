/* The main loop of a board: microphone -> queue -> recogniser -> decision -> light and log. */
#ifndef MBX_APPLICATION_H
#define MBX_APPLICATION_H

#include "mbx_recognizer.h"

typedef struct {
    mbx_recognizer *recognizer; /* set up */
    const char *(*label)(uint16_t label);
    const char *target;
    const uint8_t *model_sha256; /* [32], of the model's file */
    uint32_t build;              /* the digest in the model's header */
    uint32_t sample_rate_hz;
    uint8_t host_microphone;     /* there is none on the board: what is heard comes from the host, at its pace */
} mbx_application;

/* Returns only where the recogniser refuses to work. */
int mbx_application_run(const mbx_application *self);

#endif
