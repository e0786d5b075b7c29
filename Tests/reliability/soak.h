/* What the parts of soak share. */
#ifndef PENTE_SOAK_H
#define PENTE_SOAK_H

#include "../PenteCTests/layers.h"

/* How many objects of each kind come and go. */
extern int64_t cycle_count;

/* Calls body so many times, and more until memory has been flat for half as many. The first tenth fills all caches; pieces
 * of malloc's memory come to fit for a while longer, within bounds. A leak never comes to rest, or, in a table that
 * doubles, ever more rarely. */
void repeat(const char *what, int64_t count, void (*body)(int64_t i));

void test_objects(void **state);
void test_files(void **state);

#endif
