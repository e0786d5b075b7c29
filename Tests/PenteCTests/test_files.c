/* Files: what is saved is what is loaded, for every kind of layer, and others may have written it. */
#include "files.h"
#include "layers.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- Round trips ---- */

static bool same_structure(const pente_layer *a, const pente_layer *b) {
    pente_layer_info of_a = PENTE_LAYER_INFO_INIT, of_b = PENTE_LAYER_INFO_INIT;
    OK(pente_layer_get_info(a, &of_a));
    OK(pente_layer_get_info(b, &of_b));
    bool same = of_a.kind == of_b.kind && of_a.dtype == of_b.dtype && of_a.in_features == of_b.in_features &&
                of_a.out_features == of_b.out_features && of_a.parameter_count == of_b.parameter_count &&
                of_a.layer_count == of_b.layer_count && of_a.activation == of_b.activation &&
                of_a.negative_slope == of_b.negative_slope;
    for (int64_t i = 0; same && i < of_a.layer_count; i++) {
        pente_layer *child_of_a = NULL, *child_of_b = NULL;
        OK(pente_chain_get_layer(a, i, &child_of_a));
        OK(pente_chain_get_layer(b, i, &child_of_b));
        same = same_structure(child_of_a, child_of_b);
        OK(pente_layer_free(child_of_a));
        OK(pente_layer_free(child_of_b));
    }
    for (int64_t i = 0; same && i < of_a.parameter_count; i++) {
        pente_parameter_info p = PENTE_PARAMETER_INFO_INIT, q = PENTE_PARAMETER_INFO_INIT;
        OK(pente_layer_get_parameter_info(a, i, &p));
        OK(pente_layer_get_parameter_info(b, i, &q));
        same = p.rows == q.rows && p.columns == q.columns && p.rank == q.rank && p.trained == q.trained;
    }
    return same;
}

/* Loaded, it is the same layer; saved again, the same file. Frees the layer. */
static void check_round_trip(pente_layer *layer) {
    pente_layer *loaded = NULL;
    OK(pente_layer_save(layer, NULL, path_of("layer")));
    OK(pente_layer_load(path_of("layer"), &loaded));
    assert_true(same_structure(layer, loaded));
    assert_true(same_layers(layer, loaded));
    OK(pente_layer_save(loaded, NULL, path_of("again")));
    bytes saved = bytes_of(path_of("layer"));
    assert_true(holds(path_of("again"), &saved));
    bytes_free(&saved);
    OK(pente_layer_load_parameters(loaded, NULL, path_of("layer")));
    assert_true(same_layers(layer, loaded));
    assert_int_equal(count_files(), 2);
    OK(pente_layer_free(layer));
    OK(pente_layer_free(loaded));
}

static pente_layer *special_values_new(pente_dtype dtype) {
    pente_layer *layer = linear_new(dtype, 3, 2, 1);
    pente_matrix weight = parameter_of(layer, "weight");
    const double values[] = {NAN, INFINITY, -INFINITY, -0.0, dtype == PENTE_FLOAT32 ? 0x1p-149 : 0x1p-1074, -1e38};
    for (int i = 0; i < 6; i++) put(&weight, i / 3, i % 3, values[i]);
    return layer;
}

static void test_round_trips(void **state) {
    (void)state;
    for (pente_dtype dtype = PENTE_FLOAT32; dtype <= PENTE_FLOAT64; dtype++) {
        for (int bias = 0; bias < 2; bias++) check_round_trip(model_new(dtype, 3, 2, bias, 1).layer);
        check_round_trip(linear_new(dtype, 1, 1, 1));
        check_round_trip(linear_new(dtype, 70, 130, 1));
        check_round_trip(special_values_new(dtype));
        for (pente_activation a = PENTE_RELU; a <= PENTE_SOFTPLUS; a++) check_round_trip(activation_new(dtype, a));
        static const double slopes[] = {0, -0.0, 0.2, -1e-9, 1.0 / 3, 3e38};
        for (size_t i = 0; i < COUNT(slopes); i++) {
            pente_activation_options options = PENTE_ACTIVATION_OPTIONS_INIT;
            pente_layer *leaky = NULL;
            options.dtype = dtype;
            options.negative_slope = slopes[i];
            OK(pente_activation_new(PENTE_LEAKY_RELU, &options, &leaky));
            check_round_trip(leaky);
        }
        check_round_trip(scaler_new(dtype, 5));
        check_round_trip(tall_chain_new(dtype, 3));
        check_round_trip(CHAIN(activation_new(dtype, PENTE_RELU), CHAIN(CHAIN(scaler_new(dtype, 2))),
                               CHAIN(linear_new(dtype, 2, 3, 1), activation_new(dtype, PENTE_SOFTPLUS))));
        pente_layer *deep = linear_new(dtype, 2, 2, 1);
        for (int depth = 0; depth < 64; depth++) deep = CHAIN(deep);
        check_round_trip(deep);
    }
    remove(path_of("layer"));
    remove(path_of("again"));
}

/* A layer of one's own is saved, and its parameters loaded; making it is beyond a file. */
static void test_custom(void **state) {
    (void)state;
    affine one = {0}, two = {0};
    affine_new(&one, PENTE_FLOAT64, 3, 2, 1);
    affine_new(&two, PENTE_FLOAT64, 3, 2, 2);
    pente_layer *layers[][2] = {{one.layer, two.layer}, {NULL, NULL}}, *none = NULL;
    OK(pente_chain_new(&one.layer, 1, &layers[1][0]));
    OK(pente_chain_new(&two.layer, 1, &layers[1][1]));
    for (int i = 0; i < 2; i++) {
        pente_matrix weight = parameter_of(two.layer, "weight");
        fill_random(&weight);
        OK(pente_layer_save(layers[i][0], NULL, path_of("custom")));
        REFUSED(PENTE_INVALID_FILE, pente_layer_load(path_of("custom"), &none));
        assert_non_null(strstr(pente_last_error(), "custom"));
        OK(pente_layer_load_parameters(layers[i][1], NULL, path_of("custom")));
        assert_true(same_layers(layers[i][0], layers[i][1]));
    }
    assert_null(none);
    for (int i = 0; i < 4; i++) OK(pente_layer_free(layers[i / 2][i % 2]));
    assert_true(one.releases == 1 && two.releases == 1 && one.forwards == 0);
    remove(path_of("custom"));
}

/* Names that JSON writes otherwise than C come back as they were. */
static void test_names(void **state) {
    (void)state;
    affine own = {0};
    pente_matrix a = matrix_random(PENTE_FLOAT32, 2, 2, 2), b = matrix_random(PENTE_FLOAT32, 1, 3, 3);
    const pente_custom_parameter parameters[] = {{"a \"quoted\" \\ / name", a, 2}, {"\u00e9\U0001f600", b, 1}};
    pente_custom_options options = affine_options(&own, PENTE_FLOAT32, 2, 2);
    pente_layer *one = NULL, *two = NULL;
    options.parameters = parameters;
    options.parameter_count = 2;
    OK(pente_custom_new(&options, &one));
    fill_random(&a);
    OK(pente_custom_new(&options, &two));
    pente_sgd *sgds[] = {sgd_of(one, 0.1, 0.5), sgd_of(two, 0.1, 0.5)};
    OK(pente_sgd_step(sgds[0]));
    OK(pente_layer_save(one, sgds[0], path_of("names")));
    OK(pente_layer_load_parameters(two, sgds[1], path_of("names")));
    assert_true(same_layers(one, two));
    OK(pente_sgd_free(sgds[0]));
    OK(pente_sgd_free(sgds[1]));
    OK(pente_layer_free(one));
    OK(pente_layer_free(two));
    matrix_free(&a);
    matrix_free(&b);
    remove(path_of("names"));
}

/* ---- Files that others have written ---- */

/* Any file of a weight and perhaps a bias is a linear layer; its numbers here are 0, 1, 2 ... */
static void check_plain(const char *header, pente_dtype dtype, bool bias, bool bias_is_first) {
    pente_layer *layer = NULL, *chain = NULL;
    write_safetensors(path_of("plain"), header, dtype, bias ? 8 : 6);
    OK(pente_layer_load(path_of("plain"), &layer));
    pente_layer_info info = PENTE_LAYER_INFO_INIT;
    OK(pente_layer_get_info(layer, &info));
    assert_true(info.kind == PENTE_LINEAR && info.in_features == 3 && info.out_features == 2 && info.dtype == dtype);
    assert_int_equal(info.parameter_count, 1 + bias);
    pente_matrix weight = parameter_of(layer, "weight");
    for (int i = 0; i < 6; i++) assert_true(get(&weight, i / 3, i % 3) == i + (bias_is_first ? 2 : 0));
    if (bias) {
        pente_matrix view = parameter_of(layer, "bias");
        for (int i = 0; i < 2; i++) assert_true(get(&view, 0, i) == i + (bias_is_first ? 0 : 6));
    }
    model there = model_new(dtype, 3, 2, bias, 5);
    OK(pente_layer_load_parameters(there.layer, NULL, path_of("plain")));
    assert_true(same_layers(there.layer, layer));
    /* The same numbers under other names are not a chain's. */
    OK(pente_chain_new(&there.layer, 1, &chain));
    REFUSED(PENTE_INVALID_FILE, pente_layer_load_parameters(chain, NULL, path_of("plain")));
    assert_true(same_layers(there.layer, layer));
    OK(pente_layer_free(chain));
    model_free(&there);
    OK(pente_layer_free(layer));
}

static void test_plain_files(void **state) {
    (void)state;
    check_plain("{'weight':{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]}}", PENTE_FLOAT32, false, false);
    check_plain("{'weight':{'dtype':'F64','shape':[2,3],'data_offsets':[0,48]}}  ", PENTE_FLOAT64, false, false);
    check_plain("{'__metadata__':{'format':'pt','a \\' \\\\ \\u00e9\\ud83d\\ude00\\n':''},"
                "'bias':{'dtype':'F32','shape':[2],'data_offsets':[24,32]},"
                "'weight':{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]}}", PENTE_FLOAT32, true, false);
    check_plain("{ 'weight' : { 'data_offsets' : [ 16 , 64 ] , 'shape' : [ 2 , 3 ] , 'dtype' : 'F64' } ,\r\n"
                "\t'\\u0062ias':{'dtype':'F64','shape':[2],'data_offsets':[0,16]}}", PENTE_FLOAT64, true, true);
    remove(path_of("plain"));
}

/* A chain's parameters from a file as torch writes an nn.Sequential. */
static void test_sequential(void **state) {
    (void)state;
    static const char *const header = "{'0.weight':{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]},"
                                      "'0.bias':{'dtype':'F32','shape':[2],'data_offsets':[24,32]},"
                                      "'2.weight':{'dtype':'F32','shape':[1,2],'data_offsets':[32,40]},"
                                      "'2.bias':{'dtype':'F32','shape':[1],'data_offsets':[40,44]}}";
    pente_layer *none = NULL, *first = linear_new(PENTE_FLOAT32, 3, 2, 1);
    pente_layer *chain = CHAIN(first, activation_new(PENTE_FLOAT32, PENTE_RELU), linear_new(PENTE_FLOAT32, 2, 1, 1));
    write_safetensors(path_of("plain"), header, PENTE_FLOAT32, 11);
    OK(pente_layer_load_parameters(chain, NULL, path_of("plain")));
    pente_matrix weight = parameter_of(chain, "2.weight"), bias = parameter_of(chain, "2.bias");
    assert_true(get(&weight, 0, 1) == 9 && get(&bias, 0, 0) == 10);
    REFUSED(PENTE_INVALID_FILE, pente_layer_load(path_of("plain"), &none)); /* it does not say what lies between */
    OK(pente_layer_free(chain));
    remove(path_of("plain"));
}

/* ---- Two savers, one path ---- */

typedef struct saver {
    const pente_layer *layer;
    const char *path;
    atomic_bool *is_done;
    int wrong;
} saver;

static void *save_again_and_again(void *argument) {
    saver *s = argument;
    while (!atomic_load(s->is_done)) s->wrong += pente_layer_save(s->layer, NULL, s->path) != PENTE_OK;
    return NULL;
}

/* Whoever reads meanwhile sees one of the two files, whole. */
static void test_savers(void **state) {
    (void)state;
    atomic_bool is_done = false;
    pente_layer *layers[] = {tall_chain_new(PENTE_FLOAT32, 1), linear_new(PENTE_FLOAT64, 40, 30, 1)};
    saver savers[2];
    pthread_t threads[2];
    int seen[2] = {0, 0};
    OK(pente_layer_save(layers[0], NULL, path_of("shared")));
    for (int i = 0; i < 2; i++) {
        savers[i] = (saver){layers[i], path_of("shared"), &is_done, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, save_again_and_again, &savers[i]), 0);
    }
    for (int i = 0; i < 20000 && (i < 50 || seen[0] < 5 || seen[1] < 5); i++) {
        pente_layer *loaded = NULL;
        pente_layer_info info = PENTE_LAYER_INFO_INIT;
        OK(pente_layer_load(path_of("shared"), &loaded));
        OK(pente_layer_get_info(loaded, &info));
        int which = info.kind == PENTE_LINEAR;
        assert_true(same_layers(loaded, layers[which]));
        seen[which]++;
        OK(pente_layer_free(loaded));
    }
    atomic_store(&is_done, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(savers[i].wrong, 0);
        OK(pente_layer_free(layers[i]));
        assert_true(seen[i] > 0);
    }
    assert_int_equal(count_files(), 1);
    remove(path_of("shared"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_custom),     cmocka_unit_test(test_names),
        cmocka_unit_test(test_plain_files), cmocka_unit_test(test_sequential), cmocka_unit_test(test_savers),
    };
    return cmocka_run_group_tests_name("files", tests, directory_new, directory_free);
}
