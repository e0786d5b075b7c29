#include "pente_mpi.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MESSAGE = 400, FACTS = 8 };

struct pente_mpi {
    MPI_Comm comm;
    int rank, size, in_order;
    pente_trainer *trainer;
    pente_layer *layer;
    pente_sgd *sgd;
    pente_layer_info layer_info;
    pente_sgd_info sgd_info;
    pente_matrix *parameters; /* views of the layer's */
    int64_t sum_count;
    /* The numbers that ranks add up: the sums, what a fit appends to them, and, last, how many ranks have failed. All that
     * ranks tell each other within a fit goes this way, so that whatever one of them does meets the others' next call. */
    double *numbers, *gathered;
    int64_t capacity;
    int others_failed;
    /* Of a fit. */
    const pente_mpi_fit_options *options;
    int64_t epoch_count;
    pente_status epoch_status;
    char epoch_message[MESSAGE];
};

static _Thread_local char message[MESSAGE];

const char *pente_mpi_last_error(void) {
    return message;
}

__attribute__((format(printf, 2, 3))) static pente_status fail(pente_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return status;
}

/* What Pente said. */
static pente_status check(pente_status status) {
    return status == PENTE_OK ? PENTE_OK : fail(status, "%s", pente_last_error());
}

static pente_status check_mpi(int code) {
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (code == MPI_SUCCESS) return PENTE_OK;
    MPI_Error_string(code, text, &length);
    return fail(PENTE_MPI_FAILED, "%s", text);
}

#define TRY(call)                                  \
    do {                                           \
        pente_status status_ = (call);             \
        if (status_ != PENTE_OK) return status_;   \
    } while (0)

/* ---- What ranks agree on ------------------------------------------------------------------------------------------- */

/* All ranks return the status of the first that failed, with its message. */
static pente_status agree(pente_mpi *mpi, pente_status status) {
    int own[2] = {status != PENTE_OK, mpi->rank}, first[2];
    char text[MESSAGE];
    TRY(check_mpi(MPI_Allreduce(own, first, 1, MPI_2INT, MPI_MAXLOC, mpi->comm)));
    if (!first[0]) return PENTE_OK;
    memcpy(text, message, sizeof text);
    TRY(check_mpi(MPI_Bcast(&status, 1, MPI_INT32_T, first[1], mpi->comm)));
    TRY(check_mpi(MPI_Bcast(text, sizeof text, MPI_CHAR, first[1], mpi->comm)));
    return fail(status, "rank %d: %.380s", first[1], text);
}

/* Throws on all ranks unless they have rank 0's facts. */
static pente_status compare(pente_mpi *mpi, const double *facts, const char *const *names) {
    double first[FACTS];
    pente_status status = PENTE_OK;
    memcpy(first, facts, sizeof first);
    TRY(check_mpi(MPI_Bcast(first, FACTS, MPI_DOUBLE, 0, mpi->comm)));
    for (int i = FACTS - 1; i >= 0; i--)
        if (facts[i] != first[i])
            status = fail(PENTE_MPI_DIFFERENT, "%s is %.17g here, but %.17g on rank 0", names[i], facts[i], first[i]);
    return agree(mpi, status);
}

/* Room for so many numbers and the ranks' failures. */
static pente_status reserve(pente_mpi *mpi, int64_t count) {
    if (count < mpi->capacity) return PENTE_OK;
    size_t size = sizeof(double) * (size_t)(count + 1);
    double *numbers = malloc(size), *gathered = malloc(mpi->in_order ? size * (size_t)mpi->size : 1);
    if (numbers == NULL || gathered == NULL || count >= INT_MAX) {
        free(numbers);
        free(gathered);
        return fail(PENTE_OUT_OF_MEMORY, "out of memory for %lld sums", (long long)count);
    }
    free(mpi->numbers);
    free(mpi->gathered);
    mpi->numbers = numbers;
    mpi->gathered = gathered;
    mpi->capacity = count + 1;
    return PENTE_OK;
}

/* Adds up `count` of the numbers, and how many ranks have failed. */
static pente_status add_up(pente_mpi *mpi, int64_t count, int failed) {
    int all = (int)count + 1;
    mpi->numbers[count] = failed;
    if (mpi->in_order) {
        TRY(check_mpi(MPI_Allgather(mpi->numbers, all, MPI_DOUBLE, mpi->gathered, all, MPI_DOUBLE, mpi->comm)));
        for (int i = 0; i < all; i++) {
            double sum = mpi->gathered[i];
            for (int rank = 1; rank < mpi->size; rank++) sum += mpi->gathered[(size_t)rank * (size_t)all + (size_t)i];
            mpi->numbers[i] = sum;
        }
    } else {
        TRY(check_mpi(MPI_Allreduce(MPI_IN_PLACE, mpi->numbers, all, MPI_DOUBLE, MPI_SUM, mpi->comm)));
    }
    mpi->others_failed = mpi->numbers[count] > 0;
    return PENTE_OK;
}

/* The same of numbers that are all 0: for what a failed rank has no sums for. */
static pente_status add_up_nothing(pente_mpi *mpi, int64_t count, int failed) {
    memset(mpi->numbers, 0, sizeof(double) * (size_t)count);
    return add_up(mpi, count, failed);
}

/* ---- Models -------------------------------------------------------------------------------------------------------- */

static size_t size_of(const pente_matrix *matrix) {
    return (size_t)(matrix->rows * matrix->columns) * (matrix->dtype == PENTE_FLOAT32 ? 4 : 8);
}

static pente_status find_parameters(pente_mpi *mpi) {
    char name[1024];
    int64_t count = mpi->layer_info.parameter_count;
    mpi->parameters = malloc(sizeof *mpi->parameters * (size_t)(count + 1));
    if (mpi->parameters == NULL) return fail(PENTE_OUT_OF_MEMORY, "out of memory");
    for (int64_t i = 0; i < count; i++) {
        TRY(check(pente_layer_parameter_name(mpi->layer, i, name, sizeof name)));
        TRY(check(pente_layer_parameter_view(mpi->layer, name, &mpi->parameters[i])));
    }
    return PENTE_OK;
}

static pente_status look_at_model(pente_mpi *mpi) {
    mpi->layer_info = (pente_layer_info)PENTE_LAYER_INFO_INIT;
    mpi->sgd_info = (pente_sgd_info)PENTE_SGD_INFO_INIT;
    TRY(check(pente_layer_get_info(mpi->layer, &mpi->layer_info)));
    TRY(check(pente_sgd_get_info(mpi->sgd, &mpi->sgd_info)));
    TRY(check(pente_trainer_get_sum_count(mpi->trainer, &mpi->sum_count)));
    TRY(reserve(mpi, mpi->sum_count + 2));
    return find_parameters(mpi);
}

static pente_status compare_models(pente_mpi *mpi) {
    static const char *const names[FACTS] = {"the layer's dtype",      "the layer's in_features",
                                             "the layer's out_features", "the layer's number of parameters",
                                             "the trainer's number of sums", "the optimizer's number of groups",
                                             "the optimizer's number of parameters", "the parameters' size"};
    double size = 0;
    for (int64_t i = 0; i < mpi->layer_info.parameter_count; i++) size += (double)size_of(&mpi->parameters[i]);
    double facts[FACTS] = {mpi->layer_info.dtype,
                           (double)mpi->layer_info.in_features,
                           (double)mpi->layer_info.out_features,
                           (double)mpi->layer_info.parameter_count,
                           (double)mpi->sum_count,
                           (double)mpi->sgd_info.group_count,
                           (double)mpi->sgd_info.parameter_count,
                           size};
    return compare(mpi, facts, names);
}

pente_status pente_mpi_new(MPI_Comm comm, pente_trainer *trainer, pente_layer *layer, pente_sgd *sgd, pente_mpi **result) {
    pente_mpi *mpi = calloc(1, sizeof *mpi);
    if (mpi == NULL) return fail(PENTE_OUT_OF_MEMORY, "out of memory");
    mpi->comm = MPI_COMM_NULL;
    mpi->trainer = trainer;
    mpi->layer = layer;
    mpi->sgd = sgd;
    pente_status status = check_mpi(MPI_Comm_dup(comm, &mpi->comm));
    if (status == PENTE_OK) {
        MPI_Comm_set_errhandler(mpi->comm, MPI_ERRORS_RETURN);
        MPI_Comm_rank(mpi->comm, &mpi->rank);
        MPI_Comm_size(mpi->comm, &mpi->size);
        status = agree(mpi, look_at_model(mpi));
    }
    if (status == PENTE_OK) status = compare_models(mpi);
    if (status == PENTE_OK) status = pente_mpi_broadcast(mpi);
    if (status != PENTE_OK) pente_mpi_free(mpi);
    else *result = mpi;
    return status;
}

void pente_mpi_free(pente_mpi *mpi) {
    if (mpi == NULL) return;
    if (mpi->comm != MPI_COMM_NULL) MPI_Comm_free(&mpi->comm);
    free(mpi->parameters);
    free(mpi->numbers);
    free(mpi->gathered);
    free(mpi);
}

pente_status pente_mpi_set_in_order(pente_mpi *mpi, int in_order) {
    int former = mpi->in_order;
    mpi->in_order = in_order != 0;
    mpi->capacity = 0;
    pente_status status = agree(mpi, reserve(mpi, mpi->sum_count + 2));
    if (status != PENTE_OK) mpi->in_order = former;
    return status;
}

/* ---- Broadcast and verify ------------------------------------------------------------------------------------------ */

static pente_status broadcast_bytes(pente_mpi *mpi, void *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        size_t some = size - done < (1u << 30) ? size - done : 1u << 30;
        TRY(check_mpi(MPI_Bcast((char *)bytes + done, (int)some, MPI_BYTE, 0, mpi->comm)));
        done += some;
    }
    return PENTE_OK;
}

/* Of a model: an optimizer's state, as its functions take it, and, of one that is kept, the layer's parameters. */
typedef struct state {
    pente_sgd_options *options;
    pente_matrix *buffers;
    const pente_matrix **pointers;
    int64_t step_count;
    char *parameters;
} state;

static void free_state(pente_mpi *mpi, state *s) {
    for (int64_t i = 0; s->buffers != NULL && i < mpi->sgd_info.parameter_count; i++) free(s->buffers[i].data);
    free(s->parameters);
    free(s->options);
    free(s->buffers);
    free(s->pointers);
}

static pente_status get_state(pente_mpi *mpi, state *s) {
    int64_t groups = mpi->sgd_info.group_count, count = mpi->sgd_info.parameter_count;
    TRY(check(pente_sgd_get_info(mpi->sgd, &mpi->sgd_info)));
    s->step_count = mpi->sgd_info.step_count;
    s->options = calloc((size_t)groups, sizeof *s->options);
    s->buffers = calloc((size_t)count, sizeof *s->buffers);
    s->pointers = calloc((size_t)count, sizeof *s->pointers);
    if (s->options == NULL || s->buffers == NULL || s->pointers == NULL) return fail(PENTE_OUT_OF_MEMORY, "out of memory");
    for (int64_t i = 0; i < groups; i++) {
        s->options[i] = (pente_sgd_options)PENTE_SGD_OPTIONS_INIT;
        TRY(check(pente_sgd_get_options(mpi->sgd, i, &s->options[i])));
    }
    for (int64_t i = 0; i < count; i++) {
        pente_sgd_parameter_info info = PENTE_SGD_PARAMETER_INFO_INIT;
        TRY(check(pente_sgd_get_parameter_info(mpi->sgd, i, &info)));
        s->buffers[i] = (pente_matrix){NULL, info.rows, info.columns, info.columns, mpi->layer_info.dtype};
        s->buffers[i].data = calloc(size_of(&s->buffers[i]), 1);
        if (s->buffers[i].data == NULL) return fail(PENTE_OUT_OF_MEMORY, "out of memory");
        if (!info.has_momentum_buffer) continue;
        s->pointers[i] = &s->buffers[i];
        TRY(check(pente_sgd_get_momentum_buffer(mpi->sgd, i, &s->buffers[i])));
    }
    return PENTE_OK;
}

static pente_status set_state(pente_mpi *mpi, const state *s) {
    return check(pente_sgd_set_state(mpi->sgd, s->options, mpi->sgd_info.group_count, s->pointers,
                                     mpi->sgd_info.parameter_count, s->step_count));
}

/* The model as it is now. */
static pente_status keep(pente_mpi *mpi, state *s) {
    size_t size = 0;
    for (int64_t i = 0; i < mpi->layer_info.parameter_count; i++) size += size_of(&mpi->parameters[i]);
    s->parameters = malloc(size + 1);
    if (s->parameters == NULL) return fail(PENTE_OUT_OF_MEMORY, "out of memory");
    size = 0;
    for (int64_t i = 0; i < mpi->layer_info.parameter_count; i++) {
        memcpy(s->parameters + size, mpi->parameters[i].data, size_of(&mpi->parameters[i]));
        size += size_of(&mpi->parameters[i]);
    }
    return get_state(mpi, s);
}

static void put_back(pente_mpi *mpi, const state *s) {
    size_t size = 0;
    for (int64_t i = 0; i < mpi->layer_info.parameter_count; i++) {
        memcpy(mpi->parameters[i].data, s->parameters + size, size_of(&mpi->parameters[i]));
        size += size_of(&mpi->parameters[i]);
    }
    (void)set_state(mpi, s);
}

static pente_status broadcast_state(pente_mpi *mpi, state *s) {
    int64_t groups = mpi->sgd_info.group_count, count = mpi->sgd_info.parameter_count;
    TRY(broadcast_bytes(mpi, &s->step_count, sizeof s->step_count));
    TRY(broadcast_bytes(mpi, s->options, sizeof *s->options * (size_t)groups));
    for (int64_t i = 0; i < count; i++) {
        char is_there = s->pointers[i] != NULL;
        TRY(broadcast_bytes(mpi, &is_there, 1));
        s->pointers[i] = is_there ? &s->buffers[i] : NULL;
        TRY(broadcast_bytes(mpi, s->buffers[i].data, size_of(&s->buffers[i])));
    }
    return set_state(mpi, s);
}

pente_status pente_mpi_broadcast(pente_mpi *mpi) {
    state s = {NULL, NULL, NULL, 0, NULL};
    pente_status status = agree(mpi, get_state(mpi, &s));
    for (int64_t i = 0; status == PENTE_OK && i < mpi->layer_info.parameter_count; i++)
        status = broadcast_bytes(mpi, mpi->parameters[i].data, size_of(&mpi->parameters[i]));
    if (status == PENTE_OK) status = agree(mpi, broadcast_state(mpi, &s));
    free_state(mpi, &s);
    return status;
}

/* FNV-1a (Fowler, Noll and Vo), 64 bits. */
static uint64_t hash(uint64_t value, const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) value = (value ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3;
    return value;
}

static pente_status hash_model(pente_mpi *mpi, uint64_t *value) {
    state s = {NULL, NULL, NULL, 0, NULL};
    pente_status status = get_state(mpi, &s);
    *value = hash(0xcbf29ce484222325, &s.step_count, sizeof s.step_count);
    for (int64_t i = 0; i < mpi->layer_info.parameter_count; i++)
        *value = hash(*value, mpi->parameters[i].data, size_of(&mpi->parameters[i]));
    for (int64_t i = 0; status == PENTE_OK && i < mpi->sgd_info.parameter_count; i++)
        if (s.pointers[i] != NULL) *value = hash(*value, s.buffers[i].data, size_of(&s.buffers[i]));
    free_state(mpi, &s);
    return status;
}

/* By calls that meet a fit's: see struct pente_mpi. `failed`: some rank has. */
static pente_status verify(pente_mpi *mpi, int64_t count, int *failed) {
    uint64_t own = 0;
    pente_status status = hash_model(mpi, &own);
    memset(mpi->numbers, 0, sizeof(double) * (size_t)count);
    if (mpi->rank == 0) {
        mpi->numbers[0] = (double)(own >> 32);
        mpi->numbers[1] = (double)(own & 0xffffffff);
    }
    TRY(add_up(mpi, count, 0));
    *failed = mpi->others_failed;
    if (*failed) return PENTE_OK;
    uint64_t first = (uint64_t)mpi->numbers[0] << 32 | (uint64_t)mpi->numbers[1];
    if (status == PENTE_OK && own != first)
        status = fail(PENTE_MPI_DIFFERENT, "the parameters' hash is %016llx here, but %016llx on rank 0",
                      (unsigned long long)own, (unsigned long long)first);
    TRY(add_up_nothing(mpi, count, status != PENTE_OK));
    *failed = mpi->others_failed;
    return status;
}

pente_status pente_mpi_verify(pente_mpi *mpi) {
    int failed = 0;
    return agree(mpi, verify(mpi, mpi->sum_count, &failed));
}

/* ---- Steps --------------------------------------------------------------------------------------------------------- */

pente_status pente_mpi_step(pente_mpi *mpi, const pente_matrix *x, const pente_matrix *y,
                            const pente_matrix *sample_weight, double *loss) {
    int64_t count = mpi->sum_count;
    pente_status status = check(pente_trainer_set_sums(mpi->trainer, NULL, 0));
    if (status == PENTE_OK && (x != NULL || y != NULL || sample_weight != NULL))
        status = check(pente_trainer_accumulate(mpi->trainer, x, y, sample_weight));
    if (status == PENTE_OK) status = check(pente_trainer_get_sums(mpi->trainer, mpi->numbers, count));
    if (status == PENTE_OK) TRY(add_up(mpi, count, 0));
    else TRY(add_up_nothing(mpi, count, 1));
    if (mpi->others_failed) {
        (void)!pente_trainer_set_sums(mpi->trainer, NULL, 0);
        return agree(mpi, status);
    }
    /* From here on all ranks do the same. */
    TRY(check(pente_trainer_set_sums(mpi->trainer, mpi->numbers, count)));
    status = check(pente_trainer_apply_sums(mpi->trainer, loss));
    if (status != PENTE_OK) (void)!pente_trainer_set_sums(mpi->trainer, NULL, 0);
    return status;
}

/* ---- Fits ---------------------------------------------------------------------------------------------------------- */

static pente_status reduce(double *sums, int64_t count, void *user_data) {
    pente_mpi *mpi = user_data;
    if (mpi->others_failed) return PENTE_MPI_FAILED; /* they do not wait for this one's numbers */
    memcpy(mpi->numbers, sums, sizeof *sums * (size_t)count);
    TRY(add_up(mpi, count, 0));
    if (mpi->others_failed) return PENTE_MPI_FAILED;
    memcpy(sums, mpi->numbers, sizeof *sums * (size_t)count);
    return PENTE_OK;
}

static int32_t end_epoch(const pente_epoch *epoch, void *user_data) {
    pente_mpi *mpi = user_data;
    const pente_mpi_fit_options *options = mpi->options;
    int failed = 0;
    mpi->epoch_count++;
    if (options->verify_epochs > 0 && mpi->epoch_count % options->verify_epochs == 0)
        mpi->epoch_status = verify(mpi, mpi->sum_count + 2, &failed);
    memcpy(mpi->epoch_message, message, sizeof message);
    if (failed || mpi->epoch_status != PENTE_OK) return 1;
    return options->fit.on_epoch == NULL ? 0 : options->fit.on_epoch(epoch, options->fit.user_data);
}

static int32_t should_stop(void *user_data) {
    const pente_fit_options *fit = &((pente_mpi *)user_data)->options->fit;
    return fit->should_stop(fit->user_data);
}

static void tell_progress(const pente_progress *progress, void *user_data) {
    const pente_fit_options *fit = &((pente_mpi *)user_data)->options->fit;
    fit->on_progress(progress, fit->user_data);
}

/* A shard without rows. */
static pente_status read_nothing(int64_t first, const pente_matrix *x, const pente_matrix *y,
                                 const pente_matrix *sample_weight, int64_t *count, void *user_data) {
    (void)first, (void)x, (void)y, (void)sample_weight, (void)user_data;
    *count = 0;
    return PENTE_OK;
}

static pente_status make_empty_source(pente_mpi *mpi, pente_source **source) {
    pente_source_options options = PENTE_SOURCE_OPTIONS_INIT;
    options.dtype = mpi->layer_info.dtype;
    options.inputs = mpi->layer_info.in_features > 0 ? mpi->layer_info.in_features : 1;
    options.outputs = mpi->layer_info.out_features > 0 ? mpi->layer_info.out_features : 1;
    options.read = read_nothing;
    return check(pente_source_new(&options, source));
}

/* Rank 0's file, if it is there: all go on behind its last whole epoch. */
static pente_status resume(pente_mpi *mpi, pente_fit_options *fit) {
    int64_t done = -1;
    pente_status status = PENTE_OK;
    if (mpi->rank == 0 && fit->resume && fit->checkpoint_path != NULL && access(fit->checkpoint_path, F_OK) == 0) {
        pente_checkpoint_info info = PENTE_CHECKPOINT_INFO_INIT;
        status = check(pente_checkpoint_get_info(fit->checkpoint_path, &info));
        if (status == PENTE_OK) status = check(pente_layer_load_parameters(mpi->layer, mpi->sgd, fit->checkpoint_path));
        done = info.epochs;
    }
    fit->resume = 0;
    TRY(agree(mpi, status));
    TRY(broadcast_bytes(mpi, &done, sizeof done));
    if (done < 0) return PENTE_OK;
    fit->epochs -= done - fit->first_epoch;
    fit->first_epoch = done;
    return pente_mpi_broadcast(mpi);
}

static pente_status compare_options(pente_mpi *mpi, const pente_mpi_fit_options *options) {
    static const char *const names[FACTS] = {"epochs",    "first_epoch",   "patience", "min_delta", "whether there is a validation set",
                                             "verify_epochs", "resume", "seed"};
    const pente_fit_options *fit = &options->fit;
    double facts[FACTS] = {(double)fit->epochs,        (double)fit->first_epoch, (double)fit->patience,
                           fit->min_delta,             fit->validation_x != NULL, (double)options->verify_epochs,
                           fit->resume != 0,           (double)(fit->seed & 0xffffffff)};
    return compare(mpi, facts, names);
}

static pente_status fit_rows(pente_mpi *mpi, const pente_matrix *x, const pente_matrix *y, pente_source *source,
                             const pente_fit_options *fit, pente_fit_report *report) {
    pente_source *empty = NULL;
    if (source != NULL && (x != NULL || y != NULL))
        return fail(PENTE_INVALID_ARGUMENT, "x and y must be NULL beside a source");
    if (x != NULL || y != NULL) return check(pente_trainer_fit(mpi->trainer, x, y, fit, report));
    if (source == NULL) TRY(make_empty_source(mpi, &empty));
    pente_status status = check(pente_trainer_fit_source(mpi->trainer, source != NULL ? source : empty, fit, report));
    pente_source_free(empty);
    return status;
}

/* Runs the fit; whatever becomes of it, the ranks agree on it. */
static pente_status run(pente_mpi *mpi, const pente_matrix *x, const pente_matrix *y, pente_source *source,
                        const pente_fit_options *fit, pente_fit_report *report) {
    state start = {NULL, NULL, NULL, 0, NULL};
    pente_status status = agree(mpi, keep(mpi, &start));
    if (status == PENTE_OK) {
        mpi->others_failed = 0;
        pente_status own = status = fit_rows(mpi, x, y, source, fit, report);
        /* The last of the calls in which ranks meet; who has heard of a failure has no more of them. */
        if (!mpi->others_failed) {
            pente_status met = add_up_nothing(mpi, mpi->sum_count + 2, own != PENTE_OK);
            if (met != PENTE_OK) status = met;
        }
        if (own == PENTE_MPI_FAILED && mpi->others_failed) status = PENTE_OK; /* the failure is another's */
        if (mpi->epoch_status != PENTE_OK) {
            status = mpi->epoch_status;
            memcpy(message, mpi->epoch_message, sizeof message);
        }
        status = agree(mpi, status);
        if (status != PENTE_OK && own == PENTE_OK) put_back(mpi, &start); /* the others have gone back, too */
    }
    free_state(mpi, &start);
    return status;
}

pente_status pente_mpi_fit(pente_mpi *mpi, const pente_matrix *x, const pente_matrix *y, pente_source *source,
                           const pente_mpi_fit_options *options, pente_fit_report *report) {
    TRY(compare_options(mpi, options));
    pente_fit_options fit = options->fit;
    if (report != NULL) report->epochs = 0;
    TRY(resume(mpi, &fit));
    if (fit.epochs < 1 && options->fit.epochs >= 1) return PENTE_OK; /* all of them are done */
    mpi->options = options;
    mpi->epoch_count = 0;
    mpi->epoch_status = PENTE_OK;
    fit.seed += (uint64_t)mpi->rank;
    fit.on_epoch = end_epoch;
    fit.should_stop = fit.should_stop != NULL ? should_stop : NULL;
    fit.on_progress = fit.on_progress != NULL ? tell_progress : NULL;
    fit.reduce = reduce;
    fit.user_data = mpi;
    if (mpi->rank != 0) fit.checkpoint_path = NULL;
    return run(mpi, x, y, source, &fit, report);
}
