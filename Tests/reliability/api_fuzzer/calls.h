/* What decodes the arguments of each function of the API and calls it. EXPORTS is made of exports.txt, so a function
 * without its call_ is an error of the compiler or linker. */
#ifndef PENTE_API_FUZZER_CALLS_H
#define PENTE_API_FUZZER_CALLS_H

#include "fuzzer.h"

#define EXPORT(name) void call_##name(void);
#include "exports.inc"
#undef EXPORT

/* For choose_where. */
bool is_scaler(const object *o, const object *to);
bool is_chain(const object *o, const object *to);
bool has_parameters(const object *o, const object *to);
bool has_pass(const object *context, const object *to);

/* Of a matrix for this layer; an activation takes any number. */
int64_t columns_in(const object *layer);
int64_t columns_out(const object *layer);

#endif
