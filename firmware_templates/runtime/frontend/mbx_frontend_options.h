/* What some front ends ask for and most do not: a project has this file and its .c where its front end does. */
#ifndef MBX_FRONTEND_OPTIONS_H
#define MBX_FRONTEND_OPTIONS_H

#include "mbx_frontend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A runtime that knows of them has it. The tables of a front end that asks for them name it, so that linking them with
 * the runtime of another model, which does not, fails. */
extern const uint8_t mbx_frontend_options;

/* The lines that the filters cover become magnitudes, of MBX_MAGNITUDE_FRACTION_BITS more fraction bits than lines. */
void mbx_magnitude_spectrum(const mbx_frontend *frontend, mbx_bin *bins);

#ifdef __cplusplus
}
#endif

#endif
