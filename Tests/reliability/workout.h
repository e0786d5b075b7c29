/* Training with all that there is to it, as one hash of every bit that it leaves: what the hosts here must not change. */
#ifndef PENTE_TEST_WORKOUT_H
#define PENTE_TEST_WORKOUT_H

#include "layers.h"

/* Linear and other layers, a pass, steps, a fit with shuffles, weights, validation and clipping, a gradient check, and a
 * file: written, and read. Some numbers are subnormal, some options no short decimal numbers. If `large`, the rows are
 * enough for several threads, and there is no file. */
uint64_t workout(bool large);

#endif
