/* The mathematics, written as plainly as it can be: what the library's results are held against. */
#ifndef PENTE_TEST_ORACLE_H
#define PENTE_TEST_ORACLE_H

#include "support.h"

/* Is `got` A B + start, to within rounding? A triple loop in double. transpose_a takes A as its transpose, and so on.
 * start is NULL, of got's shape, or one row that is added to each. */
bool is_product(const char *what, const pente_matrix *got, const pente_matrix *a, bool transpose_a,
                const pente_matrix *b, bool transpose_b, const pente_matrix *start);

/* N of the header's MSE, and the loss; weight may be NULL. */
double mse_divisor(pente_reduction reduction, const pente_matrix *prediction, const pente_matrix *weight);
double mse_loss(pente_reduction reduction, const pente_matrix *prediction, const pente_matrix *target,
                const pente_matrix *weight);

/* One step of SGD for one parameter, each update one fused multiply-add in the parameter's own type. `buffer` is
 * the momentum buffer, and *has_buffer says whether a step has filled it. */
void sgd_update(const pente_sgd_options *options, const pente_matrix *parameter, const pente_matrix *gradient,
                const pente_matrix *buffer, bool *has_buffer);

/* MT19937, seeded as torch.manual_seed does. */
typedef struct mt19937 {
    uint32_t state[624];
    int next;
} mt19937;

void mt19937_seed(mt19937 *generator, uint32_t seed);
uint32_t mt19937_draw(mt19937 *generator);

/* The generator's next torch.randperm(n). */
void random_order(mt19937 *generator, int64_t *order, int64_t n);

#endif
