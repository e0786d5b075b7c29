/* Each result of a layer, the loss and their gradients against one of 113 bits, within a bound that follows from the order of
 * its sums, for numbers at both ends of the range, sums that cancel and up to ten million rows.
 *
 *     bounds [long]
 *
 * The bounds are derived in docs/reliability.md. */
#include "../PenteCTests/support.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#ifdef __x86_64__
__extension__ typedef __float128 wide;
#else
typedef long double wide; /* which has as many bits there */
#endif

static bool is_long = false;

static double unit(pente_dtype dtype) { return dtype == PENTE_FLOAT32 ? 0x1p-24 : 0x1p-53; }
static double least(pente_dtype dtype) { return dtype == PENTE_FLOAT32 ? 0x1p-149 : 0x1p-1074; }
static double gamma_of(double roundings, double u) { return roundings * u / (1 - roundings * u); }
static int64_t over(int64_t count, int64_t by) { return (count + by - 1) / by; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- Bounds --------------------------------------------------------------------------------------------------------- */

enum quantity { OUTPUT, LOSS, GRAD_PREDICTION, GRAD_INPUT, GRAD_WEIGHT, GRAD_BIAS, QUANTITIES };
static const char *const names[QUANTITIES] = {"Y", "loss", "dP", "dX", "dW", "db"};

/* Of all cases: the largest share of its bound that an error has, how many were compared, and the largest sum of absolute
 * terms for its result. */
static double worst[QUANTITIES];
static int64_t compared[QUANTITIES];
static double condition[QUANTITIES];

typedef struct shape {
    pente_dtype dtype;
    int64_t q, n, p;
} shape;

/* How many roundings a term meets. */
static double roundings_of_product(int64_t terms) { return (double)(smaller(terms, 64) + 3 + over(terms, 256)); }

static double roundings_of_output(const shape *s) {
    int64_t lanes = s->dtype == PENTE_FLOAT32 ? 16 : 8;
    return fmax(roundings_of_product(s->n), (double)(over(s->n, lanes) + 5));
}

static double relative_bound(enum quantity quantity, const shape *s) {
    double u = unit(s->dtype), u64 = 0x1p-53, blocks = (double)over(s->q, 64);
    switch (quantity) {
    case OUTPUT: return gamma_of(roundings_of_output(s), u);
    case LOSS: return gamma_of(2, u) + gamma_of(8 * (double)s->p + 8, u64);
    case GRAD_PREDICTION: return gamma_of(3, u);
    case GRAD_INPUT: return gamma_of(roundings_of_product(s->p), u);
    case GRAD_WEIGHT: return gamma_of((double)smaller(s->q, 64) + 4, u) + gamma_of(blocks, u64);
    default: return gamma_of(1, u) + gamma_of(s->dtype == PENTE_FLOAT32 ? blocks + 130 : 134, u64);
    }
}

/* Of a result that should be `exact`, a sum of terms that are `magnitude` without their signs. Each may be off by half the
 * least number there is besides. */
static void compare(enum quantity quantity, const shape *s, double got, wide exact, long double magnitude, int64_t terms) {
    long double difference = (long double)((wide)got - exact), error = difference < 0 ? -difference : difference;
    /* The bound's product of two small parts, and the reference's own rounding. */
    long double slack = 1.0001L * (long double)relative_bound(quantity, s) * magnitude;
    long double bound = slack + (long double)terms * (long double)(quantity == LOSS ? 0x1p-1074 : least(s->dtype));
    compared[quantity]++;
    if (magnitude > 0 && bound > 0) worst[quantity] = fmax(worst[quantity], (double)(error / bound));
    long double size = exact < 0 ? -(long double)exact : (long double)exact;
    if (size > 0) condition[quantity] = fmax(condition[quantity], (double)(magnitude / size));
    if (error <= bound) return;
    fail_msg("%s of %lldx%lld to %lld in dtype %d: %.17g is off by %Lg, and the bound is %Lg", names[quantity],
             (long long)s->q, (long long)s->n, (long long)s->p, s->dtype, got, error, bound);
}

/* Is `got` A B + start? As in oracle.h's is_product. */
static void compare_product(enum quantity quantity, const shape *s, const pente_matrix *got, const pente_matrix *a,
                            bool transpose_a, const pente_matrix *b, bool transpose_b, const pente_matrix *start) {
    int64_t inner = transpose_a ? a->rows : a->columns;
    for (int64_t i = 0; i < got->rows; i++) {
        for (int64_t j = 0; j < got->columns; j++) {
            wide sum = start ? (wide)get(start, 0, j) : 0;
            long double magnitude = start ? fabsl((long double)get(start, 0, j)) : 0;
            for (int64_t k = 0; k < inner; k++) {
                double x = transpose_a ? get(a, k, i) : get(a, i, k), y = transpose_b ? get(b, j, k) : get(b, k, j);
                sum += (wide)x * (wide)y;
                magnitude += fabsl((long double)x) * fabsl((long double)y);
            }
            compare(quantity, s, get(got, i, j), sum, magnitude, inner);
        }
    }
}

/* ---- Numbers -------------------------------------------------------------------------------------------------------- */

typedef enum regime { UNIFORM, SPREAD, CANCELLING, TINY, LARGE, DENORMAL, REGIMES } regime;

/* What factors of a product are multiplied by, so that it is as the regime says and no sum overflows. */
static double scale_of(regime regime, const shape *s) {
    bool is32 = s->dtype == PENTE_FLOAT32;
    int64_t longest = s->q > s->n ? s->q : s->n;
    if (s->p > longest) longest = s->p;
    switch (regime) {
    case TINY: return is32 ? 0x1p-70 : 0x1p-530;
    case LARGE: return ldexp(1, ((is32 ? 126 : 1022) - (int)ceil(log2((double)longest + 1))) / 2);
    case DENORMAL: return least(s->dtype);
    default: return 1;
    }
}

/* `rows_cancel`, `columns_cancel`: next to each row or column is nearly its negative. */
static pente_matrix numbers_new(regime regime, const shape *s, int64_t rows, int64_t columns, bool rows_cancel,
                                bool columns_cancel) {
    pente_matrix m = matrix_random(s->dtype, rows, columns, columns);
    double scale = scale_of(regime, s), difference = s->dtype == PENTE_FLOAT32 ? 1e-6 : 1e-12;
    if (regime == UNIFORM) return m;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            double value = get(&m, i, j);
            if (regime == SPREAD) value = ldexp(value, (int)random_below(41) - 20);
            if (regime == DENORMAL) value = (double)random_below(1 << 20);
            if (regime == CANCELLING) {
                bool negative = (rows_cancel && i % 2 == 1) != (columns_cancel && j % 2 == 1);
                value = get(&m, i - i % 2, j - j % 2) * (i % 2 || j % 2 ? 1 + difference * random_number() : 1);
                if (negative) value = -value;
            }
            put(&m, i, j, value * scale);
        }
    }
    return m;
}

/* ---- A case --------------------------------------------------------------------------------------------------------- */

static void check_loss(const shape *s, regime regime) {
    shape sums = {s->dtype, 4 * s->q * s->p, 1, 1}; /* the squares' sum is of so many, of differences twice as large */
    pente_matrix prediction = numbers_new(regime, &sums, s->q, s->p, false, false);
    pente_matrix target = numbers_new(regime, &sums, s->q, s->p, false, false);
    pente_matrix gradient = matrix_new(s->dtype, s->q, s->p, s->p);
    pente_mse *mse = mse_new(PENTE_MEAN);
    double loss = 0, divisor = (double)s->q * (double)s->p;
    OK(pente_mse_forward(mse, &prediction, &target, NULL, &loss));
    OK(pente_mse_backward(mse, &prediction, &target, NULL, NULL, &gradient, NULL));
    wide sum = 0;
    for (int64_t i = 0; i < s->q; i++) {
        for (int64_t j = 0; j < s->p; j++) {
            wide difference = (wide)get(&prediction, i, j) - (wide)get(&target, i, j);
            wide exact = difference * 2 / (wide)divisor;
            sum += difference * difference;
            compare(GRAD_PREDICTION, s, get(&gradient, i, j), exact, fabsl((long double)exact), 1);
        }
    }
    wide mean = sum / (wide)divisor;
    compare(LOSS, s, loss, mean, (long double)mean, 1); /* an average of what is off by half the least number */
    OK(pente_mse_free(mse));
    matrix_free(&prediction);
    matrix_free(&target);
    matrix_free(&gradient);
}

static void check_layer(const shape *s, regime regime) {
    model m = model_new(s->dtype, s->n, s->p, true, 1);
    /* Their product is the regime's: a factor of 1 makes results of denormal numbers denormal, a large one does not. */
    enum regime other = regime == DENORMAL ? (random_below(2) ? UNIFORM : LARGE) : regime;
    pente_matrix x = numbers_new(regime, s, s->q, s->n, true, true);
    pente_matrix weight = numbers_new(other, s, s->p, s->n, true, false);
    pente_matrix grad_output = numbers_new(other, s, s->q, s->p, false, false);
    pente_matrix y = matrix_new(s->dtype, s->q, s->p, s->p), grad_input = matrix_new(s->dtype, s->q, s->n, s->n);
    pente_context *context = NULL;
    OK(pente_layer_set_parameter(m.layer, "weight", &weight));
    fill(&m.bias, 0);
    if (regime == UNIFORM || regime == SPREAD) fill_random(&m.bias);
    OK(pente_context_new(m.layer, &context));
    OK(pente_layer_forward(m.layer, context, &x, &y));
    OK(pente_layer_backward(m.layer, context, &grad_output, &grad_input));
    compare_product(OUTPUT, s, &y, &x, false, &weight, true, &m.bias);
    compare_product(GRAD_INPUT, s, &grad_input, &grad_output, false, &weight, false, NULL);
    compare_product(GRAD_WEIGHT, s, &m.weight_gradient, &grad_output, true, &x, false, NULL);
    for (int64_t k = 0; k < s->p; k++) {
        wide sum = 0;
        long double magnitude = 0;
        for (int64_t i = 0; i < s->q; i++) {
            sum += (wide)get(&grad_output, i, k);
            magnitude += fabsl((long double)get(&grad_output, i, k));
        }
        compare(GRAD_BIAS, s, get(&m.bias_gradient, 0, k), sum, magnitude, 1);
    }
    OK(pente_context_free(context));
    model_free(&m);
    pente_matrix *matrices[] = {&x, &weight, &grad_output, &y, &grad_input};
    for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
}

static int64_t pick(const int64_t *from, size_t count) { return from[random_below((int64_t)count)]; }

static void test_bounds(void **state) {
    (void)state;
    static const int64_t rows[] = {1, 2, 3, 4, 7, 8, 63, 64, 65, 129, 255, 256, 257, 513, 1000, 4099};
    static const int64_t widths[] = {1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 257, 1000};
    int64_t cases = 0, wanted = is_long ? 4000 : 400, most = is_long ? 1 << 19 : 1 << 17;
    while (cases < wanted) {
        shape s = {random_below(2) ? PENTE_FLOAT32 : PENTE_FLOAT64, pick(rows, COUNT(rows)),
                   pick(widths, COUNT(widths)), pick(widths, COUNT(widths))};
        if (s.q * s.n * s.p > most) continue;
        regime regime = (enum regime)(cases++ % REGIMES);
        check_layer(&s, regime);
        check_loss(&s, regime);
    }
    print_message("bounds: %lld cases\n", (long long)cases);
}

static void test_ten_million_rows(void **state) {
    (void)state;
    if (!is_long) skip();
    static const int64_t widths[][2] = {{1, 1}, {4, 1}, {3, 2}};
    static const regime regimes[] = {UNIFORM, CANCELLING, TINY};
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        for (size_t i = 0; i < COUNT(widths); i++) {
            shape s = {dtype, 10000000, widths[i][0], widths[i][1]};
            check_layer(&s, regimes[i]);
            check_loss(&s, regimes[i]);
        }
    }
}

int main(int count, char **arguments) {
    is_long = count > 1 && strcmp(arguments[1], "long") == 0;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounds), cmocka_unit_test(test_ten_million_rows)};
    int failed = cmocka_run_group_tests_name("bounds", tests, NULL, NULL);
    for (int i = 0; i < QUANTITIES; i++) {
        printf("%-4s: %9lld compared, the worst error %.2f of its bound, condition up to %.0e\n", names[i],
               (long long)compared[i], worst[i], condition[i]);
    }
    return failed;
}
