/* A sequence of calls, from bytes; and the few calls that belong to no object. */
#include "calls.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

const function functions[] = {
#define EXPORT(name) {#name, call_##name},
#include "exports.inc"
#undef EXPORT
};
const int function_count = (int)COUNT(functions);

bool is_scaler(const object *o, const object *to) {
    (void)to;
    return o->info.kind == PENTE_SCALER;
}

bool is_chain(const object *o, const object *to) {
    (void)to;
    return o->info.kind == PENTE_CHAIN;
}

bool has_parameters(const object *o, const object *to) {
    (void)to;
    return o->parameter_count > 0;
}

int64_t columns_in(const object *layer) {
    return layer->info.in_features ? layer->info.in_features : 3;
}

int64_t columns_out(const object *layer) {
    return layer->info.out_features ? layer->info.out_features : 3;
}

/* ---- Version, status, threads and files ---- */

void call_pente_version(void) {
    PROMISED(pente_version() == PENTE_VERSION, "another version");
    count_success();
}

void call_pente_status_name(void) {
    pente_status status = one_in(4) ? (pente_status)bits64() : below(13);
    const char *name = pente_status_name(status);
    bool is_known = (status >= 0 && status <= PENTE_INVALID_FILE) || status == PENTE_USER;
    PROMISED(name && (strcmp(name, "unknown status") != 0) == is_known, "calls %d \"%s\"", (int)status, name);
    count_success();
}

void call_pente_last_error(void) {
    PROMISED(strlen(pente_last_error()) <= 255, "a long message");
    count_success();
}

void call_pente_threads_set(void) {
    static const int64_t wrong[] = {0, -1, 257, INT64_MAX, INT64_MIN};
    int64_t number = hostile() ? wrong[below((int)COUNT(wrong))] : 1 + below(3);
    (void)CALL(pente_threads_set(number));
}

void call_pente_threads_get(void) {
    int64_t number = pente_threads_get();
    PROMISED(number >= 1 && number <= 256, "%d threads", (int)number);
    count_success();
}

static bool is_saved_with(const object *layer, const object *sgd) {
    return layer->handle == sgd->layer;
}

/* A layer and, one time in two, its optimizer. */
static void *layer_and_sgd(void **sgd) {
    const object *o = choose(SGD);
    bool has_sgd = o->handle && one_in(2);
    *sgd = has_sgd ? handle_of(o, SGD, true) : NULL;
    return handle_of(has_sgd ? choose_where(LAYER, is_saved_with, o) : choose(LAYER), LAYER, false);
}

void call_pente_layer_save(void) {
    void *sgd, *layer = layer_and_sgd(&sgd);
    char *path = path_argument();
    (void)CALL(pente_layer_save(layer, sgd, path));
    if (calls_made % 8 == 0) check_directory();
}

void call_pente_layer_load_parameters(void) {
    void *sgd, *layer = layer_and_sgd(&sgd);
    if (one_in(8)) spoil_file();
    char *path = path_argument();
    (void)CALL(pente_layer_load_parameters(layer, sgd, path));
}

/* ---- Sequences ---- */

static int number_of(const char *name) {
    int i = 0;
    while (strcmp(functions[i].name, name) != 0) i++;
    return i;
}

/* A call that needs an object of which there is none makes one, so that sequences get on. */
static int possible(int number) {
    static const struct {
        const char *prefix;
        kind needed;
        const char *maker;
    } needs[] = {{"pente_trainer_new", MSE, "pente_mse_new"},
                 {"pente_trainer_new", SGD, "pente_sgd_new"},
                 {"pente_trainer_", TRAINER, "pente_trainer_new"},
                 {"pente_trainer_fit_source", SOURCE, "pente_source_new"},
                 {"pente_source_get_info", SOURCE, "pente_source_new"},
                 {"pente_sgd_new", LAYER, "pente_linear_new"},
                 {"pente_sgd_", SGD, "pente_sgd_new"},
                 {"pente_mse_", MSE, "pente_mse_new"},
                 {"pente_layer_backward", CONTEXT, "pente_context_new"},
                 {"pente_context_new", LAYER, "pente_linear_new"}};
    for (size_t i = 0; i < COUNT(needs); i++) {
        bool applies = !strncmp(functions[number].name, needs[i].prefix, strlen(needs[i].prefix));
        if (!applies || object_counts[needs[i].needed] || !strcmp(functions[number].name, needs[i].maker)) continue;
        number = number_of(needs[i].maker);
        i = (size_t)-1; /* which may need something, too */
    }
    if (number == number_of("pente_trainer_fit_source") && !choose_where(SOURCE, fits_some_trainer, NULL)->handle)
        return number_of("pente_source_new");
    bool needs_pass = number == number_of("pente_layer_backward");
    return needs_pass && !choose_where(CONTEXT, has_pass, NULL)->handle ? number_of("pente_layer_forward") : number;
}

void run_operation(int hostility) {
    int number = below(function_count);
    if (depth < 0) learn_unknown();
    if (!hostility) number = possible(number);
    frame_begin(number, hostility);
    functions[number].call();
    frame_end();
}

static void run(const uint8_t *data, size_t size, enum turn turn) {
    static const int hostilities[] = {0, 0, 0, 40, 12, 5};
    input_begin(data, size);
    twin_begin(turn);
    files_begin();
    lasting_begin();
    while (!input_is_over()) {
        if (calls_made % 4 == 0) lasting_check();
        run_operation(hostilities[below((int)COUNT(hostilities))]);
    }
    lasting_check();
    free_all_objects();
    custom_check();
    PROMISED(pente_threads_set(1) == PENTE_OK, "cannot end the threads");
}

/* What asks for more than this memory gets none. */
const char *__asan_default_options(void) {
    return "max_allocation_size_mb=256:allocator_may_return_null=1:quarantine_size_mb=16";
}

/* Of a fuzzer's run: how many calls are enough. */
static uint64_t calls_wanted = UINT64_MAX;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    const char *wanted = getenv("PENTE_FUZZ_CALLS");
    if (wanted) calls_wanted = strtoull(wanted, NULL, 10);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    bool is_pair = data[0] % 4 == 0;
    run(data + 1, size - 1, is_pair ? FIRST : ALONE);
    if (is_pair) run(data + 1, size - 1, SECOND);
    if (calls_made >= calls_wanted) {
        calls_wanted = UINT64_MAX;
        PROMISED(print_counts(), "some functions were not seen both to succeed and to fail");
        raise(SIGUSR1); /* libFuzzer then ends */
    }
    return 0;
}
