/* All handles that there are, and those that there were. */
#include "fuzzer.h"

#include <stdlib.h>
#include <string.h>

object objects[KINDS][MOST_OBJECTS];
int object_counts[KINDS];

/* The last ones that were freed, of any kind. */
static void *stale[8];
static int stale_count;

pente_status free_handle(kind kind, void *handle) {
    switch (kind) {
    case LAYER: return pente_layer_free(handle);
    case CONTEXT: return pente_context_free(handle);
    case MSE: return pente_mse_free(handle);
    case SGD: return pente_sgd_free(handle);
    case SOURCE: return pente_source_free(handle);
    default: return pente_trainer_free(handle);
    }
}

object *find_live(const void *handle, kind kind) {
    for (int i = 0; handle && i < MOST_OBJECTS; i++) {
        if (objects[kind][i].handle == handle) return &objects[kind][i];
    }
    return NULL;
}

static bool fits_any(const object *o, const object *to) {
    (void)o, (void)to;
    return true;
}

object *choose_where(kind kind, bool (*fits)(const object *, const object *), const object *to) {
    static object none = {.info = {.in_features = 3, .out_features = 2, .dtype = PENTE_FLOAT32}};
    object *candidates[MOST_OBJECTS];
    int count = 0;
    for (int i = 0; i < MOST_OBJECTS; i++) {
        object *o = &objects[kind][i];
        if (o->handle && fits(o, to)) candidates[count++] = o;
    }
    return count ? candidates[below(count)] : &none;
}

object *choose(kind kind) {
    return choose_where(kind, fits_any, NULL);
}

static void *made_up(const object *o) {
    switch (below(4)) {
    case 0: return (void *)(uintptr_t)below(256);
    case 1: return (void *)(uintptr_t)bits64();
    case 2: return (void *)((uintptr_t)o->handle ^ (uintptr_t)1 << below(64));
    default: return carve(16);
    }
}

static bool is_live(const void *handle) {
    for (int k = 0; k < KINDS; k++) {
        if (find_live(handle, (kind)k)) return true;
    }
    return false;
}

void *handle_of(const object *o, kind kind, bool may_be_null) {
    void *handle = o->handle;
    if (may_be_null && one_in(4)) return NULL;
    if (hostile()) {
        switch (below(5)) {
        case 0: handle = NULL; break;
        case 1: handle = stale[below((int)COUNT(stale))]; break;
        case 2: handle = choose((enum kind)below(KINDS))->handle; break;
        case 3: handle = choose(kind)->handle; break;
        default:
            handle = made_up(o);
            if (is_live(handle)) handle = NULL; /* by chance another's */
        }
    }
    if (!find_live(handle, kind) && !(may_be_null && !handle)) THIS->has_bad_handle = true;
    return handle;
}

/* ---- What an object is ---- */

bool name_of(const object *layer, int64_t index, char name[static 300]) {
    return layer->handle && pente_layer_parameter_name(layer->handle, index, name, 300) == PENTE_OK;
}

static void learn(object *o) {
    char name[300];
    o->info = (pente_layer_info)PENTE_LAYER_INFO_INIT;
    o->is_known = pente_layer_get_info(o->handle, &o->info) == PENTE_OK;
    o->parameter_count = 0;
    o->elements = 0;
    if (!o->is_known) o->info = (pente_layer_info){.in_features = 3, .out_features = 2, .dtype = PENTE_FLOAT32};
    for (int i = 0; o->is_known && i < o->info.parameter_count && i < MOST_PARAMETERS; i++) {
        pente_matrix *parameter = &o->parameters[i], *gradient = &o->gradients[i];
        if (!name_of(o, i, name)) continue; /* a longer one */
        PROMISED(pente_layer_parameter_view(o->handle, name, parameter) == PENTE_OK &&
                     pente_layer_gradient_view(o->handle, name, gradient) == PENTE_OK,
                 "no view of %s: %s", name, pente_last_error());
        o->elements += parameter->rows * parameter->columns;
        if (o->parameter_count == i) o->parameter_count++;
    }
}

void learn_unknown(void) {
    for (int i = 0; i < MOST_OBJECTS; i++) {
        object *o = &objects[LAYER][i];
        if (o->handle && !o->is_known) learn(o);
    }
}

void forget_object(object *o) {
    stale[stale_count++ % (int)COUNT(stale)] = o->handle;
    object_counts[o->kind]--;
    memset(o, 0, sizeof *o);
}

/* Whose turn it is to make way. */
static int oldest[KINDS];

static object *room_for(kind kind) {
    for (;;) {
        for (int i = 0; i < MOST_OBJECTS; i++) {
            if (!objects[kind][i].handle) return &objects[kind][i];
        }
        object *o = &objects[kind][oldest[kind]++ % MOST_OBJECTS];
        if (o->pins) continue;
        void *handle = o->handle;
        forget_object(o); /* first, for it may be the last of a layer whose release calls back */
        PROMISED(free_handle(kind, handle) == PENTE_OK, "cannot be freed: %s", pente_last_error());
    }
}

object *add_object(kind kind, void *handle, const object *layer) {
    PROMISED(handle, "no handle");
    object made = {.handle = handle, .kind = kind, .is_known = true};
    if (layer) {
        made.layer = layer->handle;
        made.info = layer->info;
        made.elements = layer->elements;
    }
    object *o = room_for(kind);
    *o = made;
    object_counts[kind]++;
    if (kind == LAYER) learn(o);
    return o;
}

void free_all_objects(void) {
    for (int k = KINDS - 1; k >= 0; k--) {
        for (int i = 0; i < MOST_OBJECTS; i++) {
            object *o = &objects[k][i];
            if (!o->handle) continue;
            PROMISED(free_handle((kind)k, o->handle) == PENTE_OK, "not freed: %s", pente_last_error());
            forget_object(o);
        }
    }
    memset(stale, 0, sizeof stale);
    memset(oldest, 0, sizeof oldest);
    stale_count = 0;
}
