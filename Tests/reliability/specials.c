/* What is not finite comes out where IEEE 754 has it, and nowhere else; a training step refuses it; and zeros keep their signs.
 *
 *     specials [long] */
#include "../PenteCTests/layers.h"
#include "../PenteCTests/oracle.h"

#include <float.h>
#include <math.h>
#include <string.h>

static bool is_long = false;

static int64_t pick(const int64_t *from, size_t count) { return from[random_below((int64_t)count)]; }

/* ---- What is not finite --------------------------------------------------------------------------------------------- */

static const double specials[] = {NAN, INFINITY, -INFINITY};

/* The one class of numbers that a sum with infinities may be in, whatever its order. */
static bool same_class(double a, double b) {
    return isnan(a) ? isnan(b) : isinf(a) ? a == b : isfinite(b);
}

/* got's row `i` and column `k` (-1: all) are as IEEE has the product; all else is as it was. */
static void check_spread(const char *what, const pente_matrix *got, const pente_matrix *before, int64_t row, int64_t column,
                         const pente_matrix *a, bool transpose_a, const pente_matrix *b, bool transpose_b,
                         const pente_matrix *start) {
    int64_t inner = transpose_a ? a->rows : a->columns;
    for (int64_t i = 0; i < got->rows; i++) {
        for (int64_t j = 0; j < got->columns; j++) {
            double wanted = start ? get(start, 0, j) : 0, value = get(got, i, j);
            if ((row >= 0 && row != i) || (column >= 0 && column != j)) {
                double was = get(before, i, j);
                if (memcmp(&value, &was, sizeof value) == 0) continue;
                fail_msg("%s: (%lld, %lld) has become %g", what, (long long)i, (long long)j, value);
            }
            for (int64_t k = 0; k < inner; k++) {
                double x = transpose_a ? get(a, k, i) : get(a, i, k), y = transpose_b ? get(b, j, k) : get(b, k, j);
                wanted += x * y;
            }
            if (!same_class(wanted, value)) {
                fail_msg("%s: (%lld, %lld) is %g, not %g", what, (long long)i, (long long)j, value, wanted);
            }
        }
    }
}

typedef struct pass {
    model m;
    pente_matrix x, grad_output, ones, y, grad_input;
} pass;

static void run_pass(pass *p) {
    pente_context *context = NULL;
    OK(pente_context_new(p->m.layer, &context));
    OK(pente_layer_zero_gradients(p->m.layer));
    OK(pente_layer_forward(p->m.layer, context, &p->x, &p->y));
    OK(pente_layer_backward(p->m.layer, context, &p->grad_output, &p->grad_input));
    OK(pente_context_free(context));
}

static void check_special(pass *p, pente_matrix *at, double special) {
    pente_matrix *results[] = {&p->y, &p->grad_input, &p->m.weight_gradient, &p->m.bias_gradient}, before[4];
    run_pass(p);
    for (size_t i = 0; i < 4; i++) before[i] = matrix_copy(results[i]);
    int64_t row = random_below(at->rows), column = random_below(at->columns);
    double kept = get(at, row, column);
    put(at, row, column, special);
    run_pass(p);
    bool in_x = at == &p->x, in_weight = at == &p->m.weight, in_gradient = at == &p->grad_output;
    /* NOWHERE: what does not depend on it. */
    enum { ALL = -1, NOWHERE = -2 };
    int64_t y_row = in_x ? row : in_gradient ? NOWHERE : ALL;
    int64_t y_column = in_x ? ALL : in_weight ? row : column;
    check_spread("Y", &p->y, &before[0], y_row == NOWHERE ? INT64_MAX : y_row, y_column, &p->x, false, &p->m.weight, true,
                 &p->m.bias);
    check_spread("dX", &p->grad_input, &before[1], in_gradient ? row : in_weight ? ALL : INT64_MAX,
                 in_weight ? column : ALL, &p->grad_output, false, &p->m.weight, false, NULL);
    check_spread("dW", &p->m.weight_gradient, &before[2], in_gradient ? column : in_x ? ALL : INT64_MAX,
                 in_x ? column : ALL, &p->grad_output, true, &p->x, false, NULL);
    check_spread("db", &p->m.bias_gradient, &before[3], in_gradient ? ALL : INT64_MAX, in_gradient ? column : ALL,
                 &p->ones, true, &p->grad_output, false, NULL);
    put(at, row, column, kept);
    for (size_t i = 0; i < 4; i++) matrix_free(&before[i]);
}

static void test_what_is_not_finite(void **state) {
    (void)state;
    static const int64_t rows[] = {1, 2, 5, 8, 9, 64, 65, 257, 300};
    static const int64_t widths[] = {1, 2, 3, 4, 5, 9, 15, 16, 17, 33, 130};
    for (int64_t cases = 0; cases < (is_long ? 20000 : 500); cases++) {
        pente_dtype dtype = random_below(2) ? PENTE_FLOAT32 : PENTE_FLOAT64;
        int64_t q = pick(rows, COUNT(rows)), n = pick(widths, COUNT(widths)), k = pick(widths, COUNT(widths));
        pass p = {.m = model_new(dtype, n, k, true, 1), .x = matrix_random(dtype, q, n, n + 1),
                  .grad_output = matrix_random(dtype, q, k, k), .ones = matrix_new(dtype, q, 1, 1),
                  .y = matrix_new(dtype, q, k, k), .grad_input = matrix_new(dtype, q, n, n)};
        fill(&p.ones, 1);
        /* Infinity times 0 is NaN. */
        put(&p.x, random_below(q), random_below(n), 0);
        put(&p.m.weight, random_below(k), random_below(n), 0);
        put(&p.grad_output, random_below(q), random_below(k), -0.0);
        pente_matrix *places[] = {&p.x, &p.m.weight, &p.m.bias, &p.grad_output};
        check_special(&p, places[random_below(4)], specials[random_below(3)]);
        model_free(&p.m);
        pente_matrix *matrices[] = {&p.x, &p.grad_output, &p.ones, &p.y, &p.grad_input};
        for (size_t i = 0; i < COUNT(matrices); i++) matrix_free(matrices[i]);
    }
}

/* All of the optimizer's buffers, and how many steps it has made. */
static uint64_t hash_momentum(const pente_layer *layer, const pente_sgd *sgd) {
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    OK(pente_sgd_get_info(sgd, &info));
    uint64_t hash = hash_bytes(FIRST_HASH, &info.step_count, sizeof info.step_count);
    for (int64_t i = 0; i < info.parameter_count; i++) {
        char name[64];
        OK(pente_layer_parameter_name(layer, i, name, sizeof name));
        pente_matrix parameter = parameter_of(layer, name), buffer = matrix_copy(&parameter);
        OK(pente_sgd_get_momentum_buffer(sgd, i, &buffer));
        hash = hash_matrix(hash, &buffer);
        matrix_free(&buffer);
    }
    return hash;
}

/* A NaN anywhere, through any layer, makes a step's loss NaN: it is refused, and nothing changes. */
static void test_a_step_refuses_it(void **state) {
    (void)state;
    for (int64_t cases = 0; cases < (is_long ? 5000 : 200); cases++) {
        pente_dtype dtype = random_below(2) ? PENTE_FLOAT32 : PENTE_FLOAT64;
        bool is_chain = random_below(2);
        int64_t q = 1 + random_below(random_below(4) ? 70 : 2000), n = 1 + random_below(40), k = 1 + random_below(20);
        pente_activation between = (pente_activation)(PENTE_RELU + random_below(5));
        pente_layer *layer = !is_chain ? linear_new(dtype, n, k, 1)
                                       : CHAIN(linear_new(dtype, n, 7, 1), activation_new(dtype, between),
                                               linear_new(dtype, 7, k, 2));
        pente_sgd *sgd = sgd_of(layer, 0.01, 0.9);
        pente_mse *mse = mse_new(PENTE_MEAN);
        pente_trainer *trainer = trainer_of(layer, mse, sgd);
        pente_matrix x = matrix_random(dtype, q, n, n), target = matrix_random(dtype, q, k, k);
        pente_matrix weight = matrix_new(dtype, q, 1, 1), *weights = random_below(2) ? &weight : NULL;
        double loss = 0;
        fill(&weight, 1);
        OK(pente_trainer_step(trainer, &x, &target, weights, &loss));
        snapshot before = snapshot_new(layer);
        uint64_t momentum = hash_momentum(layer, sgd);
        int64_t row = random_below(q);
        pente_matrix *place = random_below(2) ? &x : &target;
        /* Infinities pass some activations as 1 or 0. */
        put(place, row, random_below(place->columns), is_chain && place == &x ? NAN : specials[random_below(3)]);
        if (random_below(2)) put(&weight, row, 0, q > 1 ? 0 : 1); /* 0 times it is NaN */
        REFUSED(PENTE_NOT_FINITE, pente_trainer_step(trainer, &x, &target, weights, &loss));
        assert_true(is_as_in(layer, &before) && hash_momentum(layer, sgd) == momentum);
        snapshot_free(&before);
        OK(pente_trainer_free(trainer));
        OK(pente_sgd_free(sgd));
        OK(pente_mse_free(mse));
        OK(pente_layer_free(layer));
        matrix_free(&x);
        matrix_free(&target);
        matrix_free(&weight);
    }
}

/* ---- Zeros and steps ------------------------------------------------------------------------------------------------ */

/* A sum of zeros is 0, and never -0; an activation that is 0 at 0 keeps the sign. */
static void test_signs_of_zeros(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 4, 7, 8, 9, 16, 17, 40};
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        for (size_t i = 0; i < COUNT(sizes) * COUNT(sizes); i++) {
            int64_t q = sizes[i % COUNT(sizes)], n = sizes[i / COUNT(sizes)], k = pick(sizes, COUNT(sizes));
            pass p = {.m = model_new(dtype, n, k, true, 1), .x = matrix_new(dtype, q, n, n),
                      .grad_output = matrix_new(dtype, q, k, k), .y = matrix_new(dtype, q, k, k),
                      .grad_input = matrix_new(dtype, q, n, n)};
            fill(&p.x, -0.0);
            fill(&p.grad_output, -0.0);
            fill(&p.m.bias, -0.0);
            run_pass(&p);
            pente_matrix *results[] = {&p.y, &p.grad_input, &p.m.weight_gradient, &p.m.bias_gradient};
            for (size_t r = 0; r < COUNT(results); r++) {
                for (int64_t e = 0; e < results[r]->rows * results[r]->columns; e++) {
                    double zero = get(results[r], e / results[r]->columns, e % results[r]->columns);
                    assert_true(zero == 0 && !signbit(zero));
                }
            }
            static const pente_activation odd[] = {PENTE_RELU, PENTE_LEAKY_RELU, PENTE_TANH};
            for (size_t a = 0; a < COUNT(odd); a++) {
                pente_layer *layer = activation_new(dtype, odd[a]);
                pente_matrix out = matrix_new(dtype, q, n, n);
                OK(pente_layer_forward(layer, NULL, &p.x, &out));
                SAME_BITS(p.x, out);
                OK(pente_layer_free(layer));
                matrix_free(&out);
            }
            model_free(&p.m);
            pente_matrix *matrices[] = {&p.x, &p.grad_output, &p.y, &p.grad_input};
            for (size_t r = 0; r < COUNT(matrices); r++) matrix_free(matrices[r]);
        }
    }
}

/* Every parameter meets every gradient: to the bit what the formula's fused multiply-adds give; any NaN is like another. */
static void test_updates(void **state) {
    (void)state;
    static const double numbers[] = {0.0, -0.0, 1, -1, 0x1p-149, -0x1p-149, 0x1p-126, 1e-38, 1e38, -1e38, FLT_MAX,
                                     0x1p-1074, 0x1p-1022, 1e-308, 1e308, -1e308, INFINITY, -INFINITY, NAN, 1e-20, 1e20};
    enum { MANY = COUNT(numbers) };
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        for (int c = 0; c < 48; c++) {
            pente_sgd_options options = options_of(c % 3 == 0 ? 1e-30 : c % 3 == 1 ? 0.1 : 1e30, c & 8 ? 0.9 : 0, 0,
                                                   c & 16 ? 1e-10 : 0, c & 8 && c & 4, c & 1);
            model m = model_new(dtype, MANY, MANY, false, 1);
            pente_sgd *sgd = NULL;
            OK(pente_sgd_new(&m.layer, 1, &options, &sgd));
            pente_matrix wanted = matrix_new(dtype, MANY, MANY, MANY), buffer = matrix_new(dtype, MANY, MANY, MANY);
            bool has_buffer = false;
            for (int64_t i = 0; i < MANY * MANY; i++) put(&m.weight, i / MANY, i % MANY, numbers[i / MANY]);
            for (int step = 0; step < 3; step++) {
                for (int64_t i = 0; i < MANY * MANY; i++) {
                    put(&m.weight_gradient, i / MANY, i % MANY, numbers[(i + step * 5) % MANY]);
                    put(&wanted, i / MANY, i % MANY, get(&m.weight, i / MANY, i % MANY));
                }
                sgd_update(&options, &wanted, &m.weight_gradient, &buffer, &has_buffer);
                OK(pente_sgd_step(sgd));
                for (int64_t i = 0; i < MANY * MANY; i++) {
                    double a = get(&m.weight, i / MANY, i % MANY), b = get(&wanted, i / MANY, i % MANY);
                    if (isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b)) continue;
                    fail_msg("case %d, step %d: %g becomes %a, not %a", c, step, numbers[i / MANY], a, b);
                }
            }
            OK(pente_sgd_free(sgd));
            model_free(&m);
            matrix_free(&wanted);
            matrix_free(&buffer);
        }
    }
}

int main(int count, char **arguments) {
    is_long = count > 1 && strcmp(arguments[1], "long") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_finite),
        cmocka_unit_test(test_a_step_refuses_it),
        cmocka_unit_test(test_signs_of_zeros),
        cmocka_unit_test(test_updates),
    };
    return cmocka_run_group_tests_name("specials", tests, NULL, NULL);
}
