/* Lives: handles of one's own, from their making to their end. What comes of one is known beforehand, to the bit. */
#ifndef PENTE_LIVES_H
#define PENTE_LIVES_H

#include "support.h"

/* Short ones, a fit with callbacks, work for several threads, a layer of one's own, and one that is saved and resumed. */
enum { LIVES = 5, LIFE_OF_THREADS = 2, LIFE_WITH_FILES = 4 };

/* Lives each of them alone, on one thread. The directory takes files. */
void lives_begin(const char *directory);
void lives_end(void);

/* Whether each call went well, and the bits are those; else it says what went wrong. No two at a time have the same
 * number, or the same process. */
bool live(int life, int number);

#endif
