/* Read before everything else, by -include: the registers of the driver are words of the model. */
#ifndef DRIVER_MODEL_H
#define DRIVER_MODEL_H

#include <stdint.h>

volatile uint32_t *driver_model_register(uint32_t address);

#define MBX_REGISTER(address) (*driver_model_register(address))

#endif
