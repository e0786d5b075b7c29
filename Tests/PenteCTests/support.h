/* What the C tests share: expectations that show the library's message, and matrices of either dtype. */
#ifndef PENTE_TEST_SUPPORT_H
#define PENTE_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pente.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Fails the test, with the library's words, when a call's status is not the one wanted. For the main thread alone. */
#define OK(call) expect_status(call, PENTE_OK, #call, __FILE__, __LINE__)
#define REFUSED(status, call) expect_status(call, status, #call, __FILE__, __LINE__)
void expect_status(pente_status got, pente_status wanted, const char *call, const char *file, int line);

/* cmocka's assert_true, for a matrix comparison that prints where it failed. */
#define SAME_BITS(a, b) assert_true(same_bits(#a, &(a), &(b)))

/* Allocated to the last element and not one further: behind it is a page that cannot be read, or what a sanitizer or
 * valgrind sees. The gap between columns and row_stride holds a pattern. Each is freed by matrix_free. */
pente_matrix matrix_new(pente_dtype dtype, int64_t rows, int64_t columns, int64_t row_stride);
pente_matrix matrix_random(pente_dtype dtype, int64_t rows, int64_t columns, int64_t row_stride);
pente_matrix matrix_copy(const pente_matrix *matrix);
void matrix_free(pente_matrix *matrix);

double get(const pente_matrix *matrix, int64_t i, int64_t j);
void put(const pente_matrix *matrix, int64_t i, int64_t j, double value);
void fill(const pente_matrix *matrix, double value);
void fill_random(const pente_matrix *matrix);
pente_matrix rows_of(const pente_matrix *matrix, int64_t first, int64_t rows);
size_t element_size(pente_dtype dtype);

/* Compares shapes, elements and nothing of the gaps. Prints the first difference. */
bool same_bits(const char *what, const pente_matrix *a, const pente_matrix *b);
bool gap_is_untouched(const pente_matrix *matrix);

/* FNV-1a, of bytes or of a matrix's elements, onto a hash that begins as FIRST_HASH. */
#define FIRST_HASH UINT64_C(0xcbf29ce484222325)
uint64_t hash_bytes(uint64_t hash, const void *data, size_t size);
uint64_t hash_matrix(uint64_t hash, const pente_matrix *matrix);

/* 64 random bits, uniform in [-1, 1), uniform in [0, bound): each thread has the same sequence in each run. */
uint64_t random_bits(void);
double random_number(void);
int64_t random_below(int64_t bound);

/* A linear layer, its two parameters and their gradients as live views; bias.data is NULL without a bias. */
typedef struct model {
    pente_layer *layer;
    pente_matrix weight, bias, weight_gradient, bias_gradient;
} model;

model model_new(pente_dtype dtype, int64_t inputs, int64_t outputs, bool bias, uint64_t seed);
void model_free(model *model);
/* Both models have the same parameters and gradients. */
bool same_model(const model *a, const model *b);

pente_sgd_options options_of(double lr, double momentum, double dampening, double weight_decay, int nesterov,
                             int maximize);
pente_sgd *sgd_new(const model *model, double lr, double momentum);
pente_mse *mse_new(pente_reduction reduction);
pente_trainer *trainer_new(const model *model, const pente_mse *mse, pente_sgd *sgd);

/* All that training takes; lr is the one thing that tests vary, and the momentum is 0.5. */
typedef struct training {
    model model;
    pente_mse *mse;
    pente_sgd *sgd;
    pente_trainer *trainer;
} training;

training training_new(pente_dtype dtype, int64_t inputs, int64_t outputs, pente_reduction reduction, double lr);
void training_free(training *training);

#endif
