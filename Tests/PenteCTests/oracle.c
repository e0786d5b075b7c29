#include "oracle.h"

#include <float.h>
#include <math.h>

bool is_product(const char *what, const pente_matrix *got, const pente_matrix *a, bool transpose_a,
                const pente_matrix *b, bool transpose_b, const pente_matrix *start) {
    int64_t inner = transpose_a ? a->rows : a->columns;
    double epsilon = got->dtype == PENTE_FLOAT32 ? FLT_EPSILON : DBL_EPSILON;
    for (int64_t i = 0; i < got->rows; i++) {
        for (int64_t j = 0; j < got->columns; j++) {
            double sum = start ? get(start, i % start->rows, j) : 0;
            double magnitude = fabs(sum);
            for (int64_t k = 0; k < inner; k++) {
                double term = (transpose_a ? get(a, k, i) : get(a, i, k)) * (transpose_b ? get(b, j, k) : get(b, k, j));
                sum += term;
                magnitude += fabs(term);
            }
            /* Rounding errors of k sums of either sign add up to some sqrt(k) of them. */
            double tolerance = (4 + sqrt((double)inner)) * epsilon * magnitude;
            if (fabs(get(got, i, j) - sum) <= tolerance) continue;
            print_error("%s: %lldx%lld with %lld terms, element (%lld, %lld) is %.17g, not %.17g\n", what,
                        (long long)got->rows, (long long)got->columns, (long long)inner, (long long)i, (long long)j,
                        get(got, i, j), sum);
            return false;
        }
    }
    return true;
}

double mse_divisor(pente_reduction reduction, const pente_matrix *prediction, const pente_matrix *weight) {
    double rows = (double)prediction->rows;
    if (weight) {
        /* Kahan's sum: under valgrind a long double has no more digits than a double. */
        double lost = 0;
        rows = 0;
        for (int64_t i = 0; i < weight->rows; i++) {
            double term = get(weight, i, 0) - lost, sum = rows + term;
            lost = (sum - rows) - term;
            rows = sum;
        }
    }
    switch (reduction) {
    case PENTE_MEAN: return rows * (double)prediction->columns;
    case PENTE_BATCH_MEAN: return rows;
    case PENTE_OUTPUT_MEAN: return (double)prediction->columns;
    default: return 1;
    }
}

double mse_loss(pente_reduction reduction, const pente_matrix *prediction, const pente_matrix *target,
                const pente_matrix *weight) {
    double sum = 0;
    for (int64_t i = 0; i < prediction->rows; i++) {
        for (int64_t j = 0; j < prediction->columns; j++) {
            double residual = get(prediction, i, j) - get(target, i, j);
            sum += residual * residual * (weight ? get(weight, i, 0) : 1);
        }
    }
    return sum / mse_divisor(reduction, prediction, weight);
}

/* The header's four lines, for float and for double. */
#define DEFINE_ELEMENT_UPDATE(name, scalar, fused)                                                               \
    static void name(const pente_sgd_options *o, scalar *t, scalar g, scalar *buffer, bool has_buffer) {         \
        scalar momentum = (scalar)o->momentum;                                                                   \
        if (o->maximize) g = -g;                                                                                 \
        if (o->weight_decay != 0) g = fused((scalar)o->weight_decay, *t, g);                                     \
        if (o->momentum != 0) {                                                                                  \
            scalar decayed = momentum * *buffer;                                                                 \
            *buffer = has_buffer ? fused((scalar)(1 - o->dampening), g, decayed) : g;                            \
            g = o->nesterov ? fused(momentum, *buffer, g) : *buffer;                                             \
        }                                                                                                        \
        *t = fused(-(scalar)o->lr, g, *t);                                                                       \
    }

DEFINE_ELEMENT_UPDATE(update_float, float, fmaf)
DEFINE_ELEMENT_UPDATE(update_double, double, fma)

void sgd_update(const pente_sgd_options *options, const pente_matrix *parameter, const pente_matrix *gradient,
                const pente_matrix *buffer, bool *has_buffer) {
    for (int64_t i = 0; i < parameter->rows; i++) {
        for (int64_t j = 0; j < parameter->columns; j++) {
            if (parameter->dtype == PENTE_FLOAT32) {
                float value = (float)get(parameter, i, j), memory = (float)get(buffer, i, j);
                update_float(options, &value, (float)get(gradient, i, j), &memory, *has_buffer);
                put(parameter, i, j, (double)value);
                put(buffer, i, j, (double)memory);
            } else {
                double value = get(parameter, i, j), memory = get(buffer, i, j);
                update_double(options, &value, get(gradient, i, j), &memory, *has_buffer);
                put(parameter, i, j, value);
                put(buffer, i, j, memory);
            }
        }
    }
    if (options->momentum != 0) *has_buffer = true;
}

void mt19937_seed(mt19937 *generator, uint32_t seed) {
    generator->state[0] = seed;
    for (uint32_t i = 1; i < 624; i++) {
        uint32_t last = generator->state[i - 1];
        generator->state[i] = 1812433253u * (last ^ (last >> 30)) + i;
    }
    generator->next = 624;
}

uint32_t mt19937_draw(mt19937 *generator) {
    uint32_t *s = generator->state;
    if (generator->next == 624) {
        for (int i = 0; i < 624; i++) {
            uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % 624] & 0x7fffffffu);
            s[i] = s[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        generator->next = 0;
    }
    uint32_t y = s[generator->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

void random_order(mt19937 *generator, int64_t *order, int64_t n) {
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t j = i + (int64_t)(mt19937_draw(generator) % (uint64_t)(n - i));
        int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}
