/* The memory that calls are given. */
#include "fuzzer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
#endif

enum { ARENA = 1 << 22, LARGEST = 1 << 16, GAP = 32, PATTERN = 0xA5 };

frame frames[DEEPEST + 1];
int depth = -1;

void frame_begin(int function, int hostility) {
    frame *f = &frames[++depth];
    unsigned char *memory = f->memory, *before = f->before;
    if (!memory) {
        memory = aligned_alloc(64, ARENA);
        before = aligned_alloc(64, ARENA);
        if (!memory || !before) abort();
        memset(memory, PATTERN, ARENA);
        ASAN_POISON_MEMORY_REGION(memory, ARENA);
    }
    memset(f, 0, sizeof *f);
    f->memory = memory;
    f->before = before;
    f->function = function;
    f->hostility = hostility;
    f->used = GAP;
}

void frame_end(void) {
    frame *f = THIS;
    for (int i = 0; i < f->pin_count; i++) f->pinned[i]->pins--;
    ASAN_UNPOISON_MEMORY_REGION(f->memory, f->used);
    memset(f->memory, PATTERN, f->used);
    ASAN_POISON_MEMORY_REGION(f->memory, f->used);
    depth--;
}

bool hostile(void) {
    return THIS->hostility && one_in(THIS->hostility);
}

/* So many bytes and not one more, filled with the pattern. */
void *carve(size_t size) {
    frame *f = THIS;
    size_t next = (f->used + size + GAP + 7) & ~(size_t)7;
    if (next > ARENA) broken("the harness's memory is too small");
    unsigned char *start = f->memory + f->used;
    ASAN_UNPOISON_MEMORY_REGION(start, size);
    f->used = next;
    return start;
}

static void *carve_matrix(size_t size) {
    frame *f = THIS;
    unsigned char *start = carve(size);
    if (f->matrix_count < (int)COUNT(f->matrices)) f->matrices[f->matrix_count++] = (piece){start, size};
    return start;
}

static void add_output(pente_matrix matrix, bool varies) {
    frame *f = THIS;
    if (f->output_count < (int)COUNT(f->outputs)) f->outputs[f->output_count++] = (output){matrix, varies};
}

static void *sized_argument(const void *content, size_t size) {
    if (hostile()) {
        static const size_t sizes[] = {0, 1, 8, 4096, SIZE_MAX, SIZE_MAX / 2 + 1};
        int choice = below(2 + (int)COUNT(sizes));
        if (choice == 0) return NULL;
        size_t *wrong = carve(sizeof *wrong); /* the rest is not there */
        *wrong = choice == 1 ? size - 1 : sizes[choice - 2];
        return wrong;
    }
    return memcpy(carve(size), content, size);
}

void *options_argument(const void *options, size_t size) {
    return sized_argument(options, size);
}

void *report_argument(const void *initial, size_t size) {
    void *report = sized_argument(initial, size);
    if (report) add_output((pente_matrix){report, 1, (int64_t)size, (int64_t)size, 0}, true); /* its padding */
    return report;
}

void *output_argument(size_t size, bool varies) {
    if (hostile() && one_in(4)) return NULL;
    void *output = carve(size);
    add_output((pente_matrix){output, 1, (int64_t)size, (int64_t)size, 0}, varies);
    return output;
}

char *text_argument(const char *text) {
    if (!hostile()) return strcpy(carve(strlen(text) + 1), text);
    static const char *const wrong[] = {"", "weigh", "%s%n", "\xff\xfe", "0.", ".", "0.0.0.weight", "\xf0\x9f\x98"};
    int choice = below(3 + (int)COUNT(wrong));
    if (choice == 0) return NULL;
    size_t length = choice == 1 ? 2000 : choice == 2 ? (size_t)below(40) : 0;
    char *made = carve(length ? length + 1 : strlen(wrong[choice < 3 ? 0 : choice - 3]) + 1);
    if (!length) return strcpy(made, wrong[choice < 3 ? 0 : choice - 3]);
    uint8_t first = byte();
    for (size_t i = 0; i < length; i++) {
        made[i] = (char)(first + i * 37);
        if (!made[i]) made[i] = 'w';
    }
    made[length] = 0;
    return made;
}

/* ---- Matrices ---- */

UNCHECKED size_t size_of(pente_dtype dtype) {
    return dtype == PENTE_FLOAT32 ? sizeof(float) : dtype == PENTE_FLOAT64 ? sizeof(double) : 1;
}

UNCHECKED static unsigned char *address_of(const pente_matrix *m, int64_t i, int64_t j) {
    return (unsigned char *)m->data + (size_t)(i * m->row_stride + j) * size_of(m->dtype);
}

double number_at(const pente_matrix *m, int64_t i, int64_t j) {
    const void *element = address_of(m, i, j);
    return m->dtype == PENTE_FLOAT32 ? (double)*(const float *)element : *(const double *)element;
}

UNCHECKED void put_number(const pente_matrix *m, int64_t i, int64_t j, double value) {
    void *element = address_of(m, i, j);
    if (m->dtype == PENTE_FLOAT64) {
        *(double *)element = value;
    } else {
        *(float *)element = fabs(value) < 0x1p128 || isnan(value) ? (float)value : (float)copysign(INFINITY, value);
    }
}

/* Numbers in [-2, 2), now and then with a strange one among them, or all 0 or more as sample weights are. */
UNCHECKED static void fill(const pente_matrix *m) {
    uint8_t choice = byte();
    uint32_t random = choice * 2654435761u + 1;
    double offset = choice & 1 ? 0 : 2;
    for (int64_t i = 0; i < m->rows; i++) {
        for (int64_t j = 0; j < m->columns; j++) {
            random = random * 1664525 + 1013904223;
            put_number(m, i, j, (random >> 24) / 64.0 - offset);
        }
    }
    if (choice < 240) return;
    int64_t row = below(256) % m->rows;
    put_number(m, row, below(256) % m->columns, real());
}

static size_t extent_of(const pente_matrix *m) {
    return (size_t)((m->rows - 1) * m->row_stride + m->columns) * size_of(m->dtype);
}

/* Memory of another matrix of the call, or of a layer's parameter or gradient, if it has enough. */
static bool lay_over_another(pente_matrix *m) {
    frame *f = THIS;
    piece other;
    if (one_in(2)) {
        if (f->matrix_count == 0) return false;
        other = f->matrices[below(f->matrix_count)];
    } else {
        object *layer = choose(LAYER);
        if (layer->parameter_count == 0 || depth > 0 || f->pin_count == (int)COUNT(f->pinned)) return false;
        int i = below(layer->parameter_count);
        const pente_matrix *part = one_in(2) ? &layer->gradients[i] : &layer->parameters[i];
        other = (piece){part->data, extent_of(part)};
        layer->pins++;
        f->pinned[f->pin_count++] = layer;
    }
    size_t extent = extent_of(m);
    if (other.size < extent) return false;
    size_t places = (other.size - extent) / size_of(m->dtype) + 1;
    m->data = other.start + (size_t)below(256) % places * size_of(m->dtype);
    return (uintptr_t)m->data % size_of(m->dtype) == 0;
}

/* Makes a good view a bad one. What it says of its size, there is memory for, or it has to be refused for what it
 * says. */
static pente_matrix *spoil_matrix(pente_matrix *m, int role) {
    static const int64_t wrong_sizes[] = {0, -1, INT64_MIN, -4};
    static const int64_t huge[] = {INT64_MAX, INT64_C(1) << 62, INT64_C(1) << 61, INT64_MAX / 3};
    static const pente_dtype wrong_dtypes[] = {0, 3, -1, INT32_MAX};
    switch (below(9)) {
    case 0: return NULL;
    case 1: m->data = NULL; break;
    case 2: m->rows = wrong_sizes[below(4)]; break;
    case 3: m->columns = wrong_sizes[below(4)]; break;
    case 4: m->row_stride = one_in(2) ? m->columns - 1 : wrong_sizes[below(4)]; break;
    case 5: m->dtype = wrong_dtypes[below(4)]; break;
    case 6: m->data = (unsigned char *)m->data + 1 + below((int)size_of(m->dtype) - 1); break;
    case 7:
        if (m->rows == 1) m->rows = 2; /* whose stride counts */
        m->row_stride = huge[below(4)];
        break;
    default:
        if (!(role & LINKED) || THIS->has_huge_view) break;
        THIS->has_huge_view = true;
        if (one_in(2)) {
            m->rows = INT64_C(1) << (21 + below(20));
        } else {
            m->columns = m->row_stride = INT64_C(1) << (21 + below(20));
        }
        break;
    }
    return m;
}

static unsigned char *lasting_memory, *lasting_copy;
static size_t lasting_used;

static bool lay_lasting(pente_matrix *m) {
    size_t size = extent_of(m);
    if (lasting_used + size + 2 * GAP > ARENA) return false;
    m->data = lasting_memory + lasting_used;
    ASAN_UNPOISON_MEMORY_REGION(m->data, size);
    lasting_used = (lasting_used + size + GAP + 7) & ~(size_t)7;
    return true;
}

static void keep_lasting(const pente_matrix *m) {
    memcpy(lasting_copy + ((unsigned char *)m->data - lasting_memory), m->data, extent_of(m));
}

pente_matrix *matrix_argument(pente_dtype dtype, int64_t rows, int64_t columns, int role) {
    if (role & OPTIONAL && one_in(3)) return NULL;
    bool is_bad = hostile();
    int how = is_bad ? below(8) : 7;
    if (how == 0) dtype = dtype == PENTE_FLOAT32 ? PENTE_FLOAT64 : PENTE_FLOAT32;
    if (how == 1) rows += 1;
    if (how == 2) columns += 1;
    if (columns > 4096) columns = 4096; /* not enough for a layer of one's own that takes 2^40 */
    if (rows * columns * (int64_t)sizeof(double) > LARGEST) rows = LARGEST / (int64_t)sizeof(double) / columns + 1;
    pente_matrix matrix = {NULL, rows, columns, columns + (one_in(4) ? 1 + below(4) : 0), dtype};
    bool is_over = how == 3 || how == 4 ? lay_over_another(&matrix) : false;
    if (role & LASTING && (is_over || !lay_lasting(&matrix))) return NULL;
    if (!is_over) {
        if (!(role & LASTING)) matrix.data = carve_matrix(extent_of(&matrix));
        if (!(role & OUTPUT)) fill(&matrix);
        if (role & LASTING) keep_lasting(&matrix);
    }
    pente_matrix *given = &matrix;
    if (is_bad && how > 4) given = spoil_matrix(&matrix, role);
    if (!given) return NULL;
    if (role & OUTPUT) add_output(matrix, false);
    return memcpy(carve(sizeof matrix), &matrix, sizeof matrix);
}

void lasting_begin(void) {
    if (!lasting_memory) {
        lasting_memory = aligned_alloc(64, ARENA);
        lasting_copy = aligned_alloc(64, ARENA);
        if (!lasting_memory || !lasting_copy) abort();
        lasting_used = ARENA;
    }
    ASAN_UNPOISON_MEMORY_REGION(lasting_memory, lasting_used);
    memset(lasting_memory, PATTERN, lasting_used);
    memset(lasting_copy, PATTERN, lasting_used);
    ASAN_POISON_MEMORY_REGION(lasting_memory, lasting_used);
    lasting_used = GAP;
}

/* ---- What calls did to it ---- */

UNCHECKED static void copy_unchecked(void *to, const void *from, size_t size) {
    for (size_t i = 0; i < size / 8; i++) ((uint64_t *)to)[i] = ((const volatile uint64_t *)from)[i];
}

UNCHECKED static bool same_unchecked(const void *a, const void *b, size_t size) {
    uint64_t difference = 0;
    for (size_t i = 0; i < size / 8; i++) difference |= ((const volatile uint64_t *)a)[i] ^ ((const uint64_t *)b)[i];
    return difference == 0;
}

void lasting_check(void) {
    PROMISED(same_unchecked(lasting_memory, lasting_copy, lasting_used), "a borrowed x was written");
}

void save_memory(frame *f) {
    copy_unchecked(f->before, f->memory, f->used);
}

/* Is the matrix in the arena? Only then its copy is `f->before`'s. */
static bool is_within(const frame *f, const pente_matrix *m) {
    return (unsigned char *)m->data >= f->memory && (unsigned char *)m->data < f->memory + f->used;
}

bool writes_parameters(const frame *f) {
    for (int i = 0; i < f->output_count; i++) {
        if (f->outputs[i].matrix.data && !is_within(f, &f->outputs[i].matrix)) return true;
    }
    return false;
}

UNCHECKED void compare_memory(frame *f, bool succeeded) {
    for (int i = 0; succeeded && i < f->output_count; i++) {
        const pente_matrix *m = &f->outputs[i].matrix;
        if (!is_within(f, m)) continue;
        for (int64_t row = 0; row < m->rows; row++) {
            const volatile unsigned char *from = address_of(m, row, 0);
            unsigned char *to = f->before + (from - f->memory);
            for (size_t k = 0; k < (size_t)m->columns * size_of(m->dtype); k++) to[k] = from[k];
        }
    }
    PROMISED(same_unchecked(f->memory, f->before, f->used),
             succeeded ? "wrote more than its outputs" : "failed, and wrote an output");
}

/* ---- Sizes ---- */

int64_t some_rows(void) {
    int choice = byte();
    return choice < 200 ? 1 + choice % 8 : choice < 252 ? 1 + choice % 70 : choice < 255 ? 255 + below(4) : 2000;
}

int64_t some_features(void) {
    static const int64_t sizes[] = {16, 17, 33, 64, 100, 129};
    static const int64_t wrong[] = {0, -1, INT64_MIN, INT64_MAX, INT64_C(1) << 62, INT64_C(1) << 61, INT64_C(1) << 50,
                                    INT64_C(1) << 40, INT64_C(1) << 31};
    if (hostile()) return wrong[below((int)COUNT(wrong))];
    int choice = byte();
    return choice < 224 ? 1 + choice % 6 : choice < 254 ? 7 + choice % 12 : sizes[below((int)COUNT(sizes))];
}

int64_t index_below(int64_t count) {
    static const int64_t wrong[] = {-1, INT64_MIN, INT64_MAX, INT64_C(1) << 32};
    if (hostile()) {
        int choice = below(1 + (int)COUNT(wrong));
        return choice ? wrong[choice - 1] : count;
    }
    return count > 0 ? below(256) % count : 0;
}

pente_dtype some_dtype(void) {
    static const pente_dtype wrong[] = {0, 3, -1, INT32_MIN};
    if (hostile()) return wrong[below(4)];
    return one_in(2) ? PENTE_FLOAT64 : PENTE_FLOAT32;
}
