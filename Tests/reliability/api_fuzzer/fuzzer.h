/* A fuzzer of the whole API: bytes become a sequence of calls of all functions, with arguments that are good, bad or
 * mad, some of them from within callbacks. After each call it looks whether the header's promises are kept.
 *
 * What is decoded from the bytes is the same for every compiler, so that a corpus means the same everywhere: no two
 * things are decoded in the arguments of one call, whose order C leaves open. */
#ifndef PENTE_API_FUZZER_H
#define PENTE_API_FUZZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pente.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* For what looks at much memory, poisoned memory too. */
#ifdef __clang__
#define UNCHECKED __attribute__((no_sanitize("address", "undefined", "coverage")))
#else
#define UNCHECKED
#endif

/* ---- Input: what the bytes decide. Once they are over, all is 0. ---- */

void input_begin(const uint8_t *data, size_t size);
bool input_is_over(void);
uint8_t byte(void);
int below(int bound); /* 0 to bound - 1; bound <= 65536 */
bool one_in(int n);
uint64_t bits64(void);
double real(void); /* any double: small, large, NaN ... */

/* ---- Sequences ---- */

enum { DEEPEST = 2 }; /* calls within callbacks within callbacks */

/* A function of the API, and what decodes its arguments and calls it. */
typedef struct function {
    const char *name;
    void (*call)(void);
} function;
extern const function functions[];
extern const int function_count;

void run_operation(int hostility); /* one call, from the bytes */
const char *__asan_default_options(void);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise that is not kept: says so, and aborts. */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
#define PROMISED(condition, ...) ((condition) ? (void)0 : broken(__VA_ARGS__))

/* ---- Objects: all live handles, and what is known of what they stand for ---- */

typedef enum kind { LAYER, CONTEXT, MSE, SGD, TRAINER, SOURCE, KINDS } kind;
enum { MOST_OBJECTS = 8, MOST_PARAMETERS = 32 };

typedef struct object {
    void *handle;
    kind kind;
    bool is_known; /* a new chain of busy layers cannot be asked what it is */
    int pins;      /* calls under way that were given views of its parameters */
    void *layer;   /* of a context, an optimizer's first, a trainer's */
    int64_t pending_rows; /* of a context's forward pass */
    pente_reduction reduction;
    pente_layer_info info; /* of the layer */
    int64_t elements;      /* of all parameters */
    int parameter_count;   /* that are looked at */
    pente_matrix parameters[MOST_PARAMETERS], gradients[MOST_PARAMETERS];
} object;

extern object objects[KINDS][MOST_OBJECTS];
extern int object_counts[KINDS];

object *find_live(const void *handle, kind kind);
/* One of the live objects; if there are none, one with a shape and without a handle. */
object *choose(kind kind);
object *choose_where(kind kind, bool (*fits)(const object *, const object *), const object *to);
/* Its handle, or a bad one. */
void *handle_of(const object *object, kind kind, bool may_be_null);
/* After success: adds what a call has made, with what it was made from. */
object *add_object(kind kind, void *handle, const object *layer);
void forget_object(object *object);
void learn_unknown(void);
void free_all_objects(void);
pente_status free_handle(kind kind, void *handle);
bool name_of(const object *layer, int64_t index, char name[static 300]);

/* ---- A call under way: its memory is an arena of pieces with gaps between them, which nobody may touch ---- */

typedef struct piece {
    unsigned char *start;
    size_t size;
} piece;

/* Memory that a call may write if it succeeds. */
typedef struct output {
    pente_matrix matrix; /* of bytes, with dtype 0, if it is no matrix */
    bool varies;         /* it holds an address, or padding: from run to run others */
} output;

typedef struct frame {
    int function;
    int hostility; /* 0: the arguments are good; n: one in n is bad */
    unsigned char *memory, *before;
    size_t used;
    piece matrices[128];
    int matrix_count;
    output outputs[16];
    int output_count;
    object *pinned[16];
    int pin_count;
    bool has_bad_handle, has_huge_view;
    int callbacks;                /* that have run */
    bool was_written;             /* by calls within them that succeeded */
    pente_status callback_status; /* the last one that failed */
} frame;

extern frame frames[DEEPEST + 1];
extern int depth; /* -1: no call is under way */
#define THIS (&frames[depth])

void frame_begin(int function, int hostility);
void frame_end(void);

bool hostile(void); /* shall this argument be bad? */
void *carve(size_t size);
/* A struct of options or a report, or one with a bad size, or NULL. */
void *options_argument(const void *options, size_t size);
void *report_argument(const void *initial, size_t size);
void *output_argument(size_t size, bool varies); /* or NULL */
#define HANDLE_OUTPUT() output_argument(sizeof(void *), true)
char *text_argument(const char *text);

/* Of a source. */
bool fits_some_trainer(const object *source, const object *to);

int64_t some_rows(void);
int64_t some_features(void);
int64_t index_below(int64_t count);
pente_dtype some_dtype(void);

typedef enum role { INPUT = 0, OUTPUT = 1, OPTIONAL = 2, LINKED = 4, LASTING = 8 } role;
/* A view of rows x columns. LINKED: another argument bounds its size, so that a huge one must be refused before its
 * memory is looked at. LASTING: its memory lives as long as the sequence. */
pente_matrix *matrix_argument(pente_dtype dtype, int64_t rows, int64_t columns, int role);
double number_at(const pente_matrix *matrix, int64_t i, int64_t j);
void put_number(const pente_matrix *matrix, int64_t i, int64_t j, double value);
size_t size_of(pente_dtype dtype);
void lasting_begin(void);
void lasting_check(void);
void save_memory(frame *frame);
void compare_memory(frame *frame, bool succeeded);
bool writes_parameters(const frame *frame); /* which are an output of another call's then */

/* ---- Checks ---- */

/* Makes the call under way, unless the twin leaves it out. */
#define CALL(expression) (begin_call() ? end_call(expression) : skipped_status())
bool begin_call(void);
pente_status end_call(pente_status status);
pente_status skipped_status(void);
void count_success(void); /* of a function that cannot fail */

/* A sequence may run a second time without its failed calls: all the others must go as before. */
enum turn { ALONE, FIRST, SECOND };
void twin_begin(enum turn turn);
bool has_twin(void); /* it may have no part that differs from run to run */

void state_begin(int depth);
void state_compare(int depth, const char *after);
uint64_t state_hash(int depth); /* of the parameters and gradients */
uint64_t hash_matrix(uint64_t hash, const pente_matrix *matrix);
uint64_t hash_bytes(uint64_t hash, const void *data, size_t size);

extern uint64_t calls_made;
bool print_counts(void); /* true if all functions were seen to succeed, and to fail if they may */

/* ---- Callbacks ---- */

pente_custom_options custom_options(pente_dtype dtype, int64_t inputs, int64_t outputs);
void custom_drop(pente_custom_options *options); /* of a layer that was not made */
void custom_check(void);                         /* after all is freed */
int32_t on_epoch(const pente_epoch *epoch, void *user_data);
int32_t should_stop(void *user_data);

/* ---- Files ---- */

void files_begin(void); /* an empty directory */
char *path_argument(void);
/* That of an .npy file of so many rows and columns, written now. */
char *npy_argument(pente_dtype dtype, int64_t rows, int64_t columns);
void spoil_file(void);
void check_directory(void);

#endif
