/* Outputs that overlap an input are refused, and those that only lie between its columns are not. */
#include "support.h"

#include <string.h>

/* Blocks of columns of one table do not overlap, though their rows alternate. */
static void test_interleaved_blocks(void **state) {
    (void)state;
    model m = model_new(PENTE_FLOAT64, 3, 2, true, 1);
    pente_matrix table = matrix_random(PENTE_FLOAT64, 5, 8, 8), separate = matrix_new(PENTE_FLOAT64, 5, 2, 2);
    pente_matrix x = table, y = table, grad_input = table;
    pente_context *context = NULL;
    x.columns = grad_input.columns = 3;
    y.columns = 2;
    y.data = (double *)table.data + 3;
    grad_input.data = (double *)table.data + 5;
    OK(pente_context_new(m.layer, &context));
    OK(pente_layer_forward(m.layer, NULL, &x, &separate));
    OK(pente_layer_forward(m.layer, context, &x, &y));
    SAME_BITS(y, separate);
    OK(pente_layer_backward(m.layer, context, &y, &grad_input));
    OK(pente_context_free(context));
    matrix_free(&table);
    matrix_free(&separate);
    model_free(&m);
}

/* ---- Blocks by chance, in one small table ---- */

enum { TABLE = 60, TRIES = 20000 };

static pente_matrix random_block(float *table, int64_t rows, int64_t columns, int64_t row_stride) {
    pente_matrix block = pente_float32_matrix(table, rows, columns);
    int64_t extent = (rows - 1) * row_stride + columns;
    block.row_stride = row_stride;
    block.data = table + random_below(TABLE - extent + 1);
    return block;
}

static void mark(const pente_matrix *block, const float *table, bool *marked) {
    int64_t start = (const float *)block->data - table;
    for (int64_t i = 0; i < block->rows; i++) {
        for (int64_t j = 0; j < block->columns; j++) marked[start + i * block->row_stride + j] = true;
    }
}

static bool overlap(const pente_matrix *a, const pente_matrix *b, const float *table) {
    bool of_a[TABLE] = {false}, of_b[TABLE] = {false};
    mark(a, table, of_a);
    mark(b, table, of_b);
    for (int i = 0; i < TABLE; i++) {
        if (of_a[i] && of_b[i]) return true;
    }
    return false;
}

/* Whatever overlaps is refused, and changes nothing; blocks of one table that do not are taken. */
static void test_blocks_by_chance(void **state) {
    (void)state;
    model models[4];
    int counts[2] = {0, 0};
    for (int i = 0; i < 4; i++) models[i] = model_new(PENTE_FLOAT32, 1 + i % 2, 1 + i / 2, true, 1);
    for (int i = 0; i < TRIES; i++) {
        float table[TABLE], kept[TABLE];
        const model *m = &models[random_below(4)];
        int64_t rows = 1 + random_below(5), stride = 2 + random_below(9);
        int64_t other_stride = random_below(3) ? stride : 2 + random_below(9);
        pente_matrix x = random_block(table, rows, m->weight.columns, stride);
        pente_matrix y = random_block(table, rows, m->weight.rows, other_stride);
        bool overlaps = overlap(&x, &y, table);
        for (int j = 0; j < TABLE; j++) table[j] = (float)j;
        memcpy(kept, table, sizeof kept);
        pente_status status = pente_layer_forward(m->layer, NULL, &x, &y);
        if (overlaps) {
            assert_int_equal(status, PENTE_INVALID_ARGUMENT);
            assert_memory_equal(table, kept, sizeof kept);
        } else if (rows == 1 || stride == other_stride) {
            assert_int_equal(status, PENTE_OK);
        }
        counts[overlaps]++;
    }
    assert_true(counts[0] > TRIES / 10 && counts[1] > TRIES / 10);
    for (int i = 0; i < 4; i++) model_free(&models[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interleaved_blocks),
        cmocka_unit_test(test_blocks_by_chance),
    };
    return cmocka_run_group_tests_name("overlap", tests, NULL, NULL);
}
