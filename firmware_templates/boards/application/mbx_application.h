/* The main loop of a board: microphone -> queue -> recogniser -> decision -> light and log. */
#ifndef MBX_APPLICATION_H
#define MBX_APPLICATION_H

#include "mbx_recognizer.h"

typedef struct {
    mbx_recognizer *recognizer; /* set up */
    const char *(*label)(uint16_t label);
    int (*is_word)(uint16_t label); /* 0 for silence and unknown words */
} mbx_application;

/* Returns only where the recogniser refuses to work. */
int mbx_application_run(const mbx_application *self);

#endif
