/* A crowd: visitors, a thread each, who call every function of the library at random, on handles that all of them share,
 * make anew and free under each other's hands. */
#ifndef PENTE_CROWD_H
#define PENTE_CROWD_H

#include "calls.h"

visitor visitor_new(uint64_t seed);
void visitor_free(visitor *v);
int64_t below(visitor *v, int64_t bound);

/* The directory takes files. */
void crowd_begin(const char *directory);

/* Something at random. */
void crowd_act(visitor *v);

/* Frees all handles. */
void crowd_end(void);

/* ---- Within the crowd ---- */

enum { CROWD_COLUMNS = 4 }; /* of each matrix, in and out */

/* Whose act it is that the calling thread is in. */
extern _Thread_local visitor *crowd_visitor;

/* NULL if it was refused. */
pente_layer *own_new(visitor *v, pente_dtype dtype);
/* Each one should be released by now. */
void own_end(void);

#endif
