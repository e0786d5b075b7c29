/* Files whose contents are not what they should be: refused, with nothing changed, whatever stands where. */
#include "files.h"
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- Contents ---- */

/* Refused by both that read files, and nothing changes. A file that is well formed, and yet not of a linear layer from
 * 3 to 2 columns, may be refused for its shapes or dtypes. */
static void check_refused(const char *what, bool is_well_formed) {
    model there = model_new(PENTE_FLOAT32, 3, 2, true, 5);
    pente_layer *layer = NULL;
    fill_gradients(there.layer);
    snapshot before = snapshot_new(there.layer);
    pente_status load = pente_layer_load(path_of("bad"), &layer);
    pente_status load_parameters = pente_layer_load_parameters(there.layer, NULL, path_of("bad"));
    const pente_status statuses[] = {load, load_parameters};
    bool is_refused = layer == NULL;
    for (int i = 0; i < 2; i++) {
        bool is_mismatch = statuses[i] == PENTE_SHAPE_MISMATCH || statuses[i] == PENTE_DTYPE_MISMATCH;
        is_refused = is_refused && (statuses[i] == PENTE_INVALID_FILE || (is_well_formed && is_mismatch));
    }
    if (!is_refused) {
        fail_msg("%s: %s and %s", what, pente_status_name(load), pente_status_name(load_parameters));
    }
    assert_non_null(strstr(pente_last_error(), "pente_layer_load_parameters: "));
    assert_true(is_as_in(there.layer, &before));
    snapshot_free(&before);
    model_free(&there);
}

#define WEIGHT "'weight':{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]}"
#define BIAS "'bias':{'dtype':'F32','shape':[2],'data_offsets':[24,32]}"

/* Headers before 32 bytes of numbers; '"' for each '. */
static const char *const bad_headers[] = {
    "", "{", "}", "{}", "[]", "null", "0", "''", "{'weight'}", "{'weight':}", "{'weight':1}", "{'weight':null}",
    "{'weight':[]}", "{" WEIGHT "," BIAS, "{" WEIGHT BIAS "}", "{" WEIGHT ",," BIAS "}", "{" WEIGHT "," BIAS ",}",
    "{" WEIGHT "," BIAS "}}", "{" WEIGHT "," BIAS "} x", " {" WEIGHT "," BIAS "}",
    "{" WEIGHT "," WEIGHT "," BIAS "}", "{" WEIGHT "," BIAS "," BIAS "}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[1],'data_offsets':[24,28]},"
    "'bias':{'dtype':'F32','shape':[1],'data_offsets':[28,32]}}",
    "{weight:{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight:{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]}," BIAS "}",
    /* dtype */
    "{'weight':{'shape':[2,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':32,'shape':[2,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','dtype':'F32','shape':[2,3],'data_offsets':[0,24]}," BIAS "}",
    /* shape */
    "{'weight':{'dtype':'F32','data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':6,'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[2,-3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[-2,-3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[2.0,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':['2',3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[02,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[+2,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[2,3,],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[2,4],'data_offsets':[0,24]}," BIAS "}",
    /* 2^62 + 3 columns: 24 bytes, if they wrap around */
    "{'weight':{'dtype':'F32','shape':[2,4611686018427387907],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[4294967296,4294967296],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[18446744073709551618,3],'data_offsets':[0,24]}," BIAS "}",
    /* data_offsets: missing, of another length, holes, overlaps, beyond the end, reversed, negative, wrapping */
    "{'weight':{'dtype':'F32','shape':[2,3]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[2,3],'data_offsets':[0]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[2,3],'data_offsets':[0,24,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[2,3],'data_offsets':[0,23]}," BIAS "}",
    "{" WEIGHT "}", /* 8 bytes that are nobody's */
    "{'weight':{'dtype':'F32','shape':[2,3],'data_offsets':[8,32]},"
    "'bias':{'dtype':'F32','shape':[1],'data_offsets':[0,4]}}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[2],'data_offsets':[20,28]}}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[2],'data_offsets':[0,8]}}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[2],'data_offsets':[28,36]}}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[2],'data_offsets':[32,24]}}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[2],'data_offsets':[-8,0]}}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[2],'data_offsets':[18446744073709551592,18446744073709551600]}}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[2],'data_offsets':[9223372036854775800,9223372036854775808]}}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[2],'data_offsets':[2.4e1,32]}}",
    /* metadata */
    "{'__metadata__':1," WEIGHT "," BIAS "}", "{'__metadata__':{'a':1}," WEIGHT "," BIAS "}",
    "{'__metadata__':{'a':null}," WEIGHT "," BIAS "}", "{'__metadata__':{'a':{'b':'c'}}," WEIGHT "," BIAS "}",
    "{'__metadata__':{'a':'\x01'}," WEIGHT "," BIAS "}", "{'__metadata__':{'a':'\xff'}," WEIGHT "," BIAS "}",
    "{'__metadata__':{'a':'\\x'}," WEIGHT "," BIAS "}", "{'__metadata__':{'a':'\\ud800'}," WEIGHT "," BIAS "}",
    "{'__metadata__':{'a':'\\u12'}," WEIGHT "," BIAS "}",
    "{'__metadata__':{'a':'b'},'__metadata__':{}," WEIGHT "," BIAS "}",
};

/* Well formed, and not the parameters of a linear layer. */
static const char *const misfits[] = {
    "{'weight':{'dtype':'F33','shape':[2,3],'data_offsets':[0,24]}," BIAS "}",
    "{" WEIGHT "," BIAS ",'x':{'dtype':'F32','shape':[0],'data_offsets':[32,32]}}",
    "{'bias':{'dtype':'F32','shape':[8],'data_offsets':[0,32]}}",
    "{'Weight':{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'I32','shape':[2,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F64','shape':[1,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F16','shape':[4,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[6],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[1,2,3],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[3,2],'data_offsets':[0,24]}," BIAS "}",
    "{'weight':{'dtype':'F32','shape':[0,3],'data_offsets':[0,0]},"
    "'bias':{'dtype':'F32','shape':[8],'data_offsets':[0,32]}}",
    "{" WEIGHT ",'bias':{'dtype':'F32','shape':[1,2],'data_offsets':[24,32]}}",
};

static void test_bad_headers(void **state) {
    (void)state;
    pente_layer *layer = NULL;
    write_safetensors(path_of("bad"), "{" WEIGHT "," BIAS "}", PENTE_FLOAT32, 8);
    OK(pente_layer_load(path_of("bad"), &layer)); /* so much for the good one */
    OK(pente_layer_free(layer));
    for (size_t i = 0; i < COUNT(bad_headers) + COUNT(misfits); i++) {
        bool is_well_formed = i >= COUNT(bad_headers);
        const char *header = is_well_formed ? misfits[i - COUNT(bad_headers)] : bad_headers[i];
        char start[120];
        write_safetensors(path_of("bad"), header, PENTE_FLOAT32, 8);
        snprintf(start, sizeof start, "%s", header);
        check_refused(start, is_well_formed);
    }
}

/* A million brackets are a file's right, and no reason to run out of stack. */
static void test_deep_nesting(void **state) {
    (void)state;
    static const struct {
        const char *before, *repeated, *after;
    } headers[] = {
        {"", "[", ""}, {"", "{'a':", ""}, {"{'weight':", "[", "}"}, {"{'__metadata__':", "{'a':", ""},
        {"{'weight':{'dtype':", "[", ""}, {"{'weight':{'dtype':'F32','shape':", "[", "]}}"},
        {"{'__metadata__':{'pente':'", "[", "'}," WEIGHT "," BIAS "}"},
        {"{'__metadata__':{'pente':'", "{\\'a\\':", "'}," WEIGHT "," BIAS "}"},
        {"{'__metadata__':{'pente':'{\\'kind\\':", "[", "'}," WEIGHT "," BIAS "}"},
    };
    enum { TIMES = 1000000 };
    for (size_t i = 0; i < COUNT(headers); i++) {
        size_t length = strlen(headers[i].repeated), size = strlen(headers[i].before);
        char *header = malloc(size + TIMES * length + strlen(headers[i].after) + 1);
        if (!header) abort();
        memcpy(header, headers[i].before, size);
        for (int k = 0; k < TIMES; k++, size += length) memcpy(header + size, headers[i].repeated, length);
        memcpy(header + size, headers[i].after, strlen(headers[i].after) + 1);
        write_safetensors(path_of("bad"), header, PENTE_FLOAT32, 8);
        free(header);
        /* Parameters need no word on how the layer is built, so there it may be passed over. */
        pente_layer *layer = NULL;
        REFUSED(PENTE_INVALID_FILE, pente_layer_load(path_of("bad"), &layer));
        model there = model_new(PENTE_FLOAT32, 3, 2, true, 5);
        pente_status status = pente_layer_load_parameters(there.layer, NULL, path_of("bad"));
        assert_true(status == PENTE_INVALID_FILE || (status == PENTE_OK && strstr(headers[i].before, "pente")));
        model_free(&there);
    }
}

/* ---- Many layers ---- */

/* A chain of so many scalers, in so many chains around it. */
static void write_scalers(int count, int depth) {
    static const char opening[] = "{\\'type\\':\\'chain\\',\\'layers\\':[";
    static const char leaf[] = "{\\'type\\':\\'scaler\\',\\'features\\':1}";
    char *header = malloc(200 + 100 * (size_t)depth + (300 + 4 * (size_t)depth) * (size_t)count), *end = header;
    if (!header) abort();
    end += sprintf(end, "{'__metadata__':{'pente':'{\\'dtype\\':\\'float32\\',\\'layer\\':");
    for (int k = 0; k < depth; k++) end += sprintf(end, "%s", opening);
    for (int i = 0; i < count; i++) end += sprintf(end, "%s%s", i ? "," : "", leaf);
    for (int k = 0; k < depth; k++) end += sprintf(end, "]}");
    end += sprintf(end, "}'}");
    for (int i = 0; i < 2 * count; i++) {
        end += sprintf(end, ",'");
        for (int k = 1; k < depth; k++) end += sprintf(end, "0.");
        end += sprintf(end, "%d.%s':{'dtype':'F32','shape':[1],'data_offsets':[%d,%d]}", i / 2, i % 2 ? "scale" : "mean",
                       4 * i, 4 * i + 4);
    }
    sprintf(end, "}");
    write_safetensors(path_of("many"), header, PENTE_FLOAT32, 2 * (size_t)count);
    free(header);
}

/* The processor's seconds to load a chain of so many layers and to get each of them. */
static double seconds_for(int count) {
    pente_layer *chain, *layer;
    write_scalers(count, 1);
    clock_t start = clock();
    OK(pente_layer_load(path_of("many"), &chain));
    for (int i = 0; i < count; i++) {
        OK(pente_chain_get_layer(chain, i, &layer));
        OK(pente_layer_free(layer));
    }
    OK(pente_layer_free(chain));
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

/* Four times as many take about four times as long, and not sixteen times. */
static void test_many_layers(void **state) {
    (void)state;
    double few = seconds_for(7500), many = seconds_for(30000);
    if (many > 10 * few) fail_msg("%g s for 7,500 layers, but %g s for 30,000", few, many);
}

/* In each chain a parameter has a name of its own, as long as the chain is deep. */
static void test_many_names(void **state) {
    (void)state;
    pente_layer *layer = NULL;
    write_scalers(8064, 31); /* 2 * 31 * 8,064 = 499,968 names */
    OK(pente_layer_load(path_of("many"), &layer));
    OK(pente_layer_save(layer, NULL, path_of("again")));
    pente_layer *chain = CHAIN(layer);
    REFUSED(PENTE_INVALID_ARGUMENT, pente_layer_save(chain, NULL, path_of("again")));
    OK(pente_layer_free(chain));
    write_scalers(8064, 32);
    REFUSED(PENTE_INVALID_FILE, pente_layer_load(path_of("many"), &layer));
}

/* ---- Sizes ---- */

static void test_lengths(void **state) {
    (void)state;
    static const uint64_t lengths[] = {0,
                                       1,
                                       7,
                                       30,
                                       199,
                                       1000,
                                       UINT64_C(100000000),
                                       UINT64_C(1) << 31,
                                       UINT64_C(1) << 32,
                                       INT64_MAX - 8,
                                       INT64_MAX - 7,
                                       INT64_MAX,
                                       UINT64_C(1) << 63,
                                       UINT64_MAX - 8,
                                       UINT64_MAX - 7,
                                       UINT64_MAX};
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1);
    OK(pente_layer_save(layer, NULL, path_of("bad")));
    bytes good = bytes_of(path_of("bad"));
    OK(pente_layer_free(layer));
    for (size_t i = 0; i < COUNT(lengths); i++) {
        char what[50];
        snprintf(what, sizeof what, "a header of %llu bytes", (unsigned long long)lengths[i]);
        uint64_t length = 0;
        for (int k = 7; k >= 0; k--) length = length << 8 | good.data[k];
        if (length == lengths[i]) continue;
        bytes bad = bytes_of(path_of("bad"));
        for (int k = 0; k < 8; k++) bad.data[k] = (unsigned char)(lengths[i] >> (8 * k));
        write_bytes(path_of("bad"), bad.data, bad.size);
        check_refused(what, false);
        write_bytes(path_of("bad"), good.data, good.size);
        bytes_free(&bad);
    }
    /* Every beginning of a file, and one that goes on. */
    for (size_t size = 0; size < good.size; size++) {
        char what[50];
        snprintf(what, sizeof what, "%d of %d bytes", (int)size, (int)good.size);
        write_bytes(path_of("bad"), good.data, size);
        check_refused(what, false);
    }
    write_bytes(path_of("bad"), good.data, good.size + 1);
    check_refused("a byte too many", false);
    bytes_free(&good);
}

/* ---- Any change of a file that this library wrote ---- */

static int counts[3]; /* loads that went well, that were refused, and what else may not be */

static void count_status(pente_status status) {
    bool is_refused = status == PENTE_INVALID_FILE || status == PENTE_SHAPE_MISMATCH || status == PENTE_DTYPE_MISMATCH;
    counts[status == PENTE_OK ? 0 : is_refused ? 1 : 2]++;
    if (status != PENTE_OK && !is_refused) print_error("%s\n", pente_last_error());
}

/* Whatever comes of it, it is a layer, or a refusal that changes nothing. */
static void load_changed(const unsigned char *data, size_t size, pente_layer *there, pente_sgd *sgd) {
    pente_layer *layer = NULL;
    write_bytes(path_of("bad"), data, size);
    pente_status status = pente_layer_load(path_of("bad"), &layer);
    count_status(status);
    if (status == PENTE_OK) OK(pente_layer_free(layer));
    snapshot before = snapshot_new(there);
    status = pente_layer_load_parameters(there, sgd, path_of("bad"));
    count_status(status);
    if (status != PENTE_OK) assert_true(is_as_in(there, &before));
    snapshot_free(&before);
    /* Whatever the optimizer has been given is what it may have. */
    pente_sgd_options options = PENTE_SGD_OPTIONS_INIT;
    pente_sgd_info info = PENTE_SGD_INFO_INIT;
    OK(pente_sgd_get_options(sgd, 0, &options));
    OK(pente_sgd_set_options(sgd, 0, &options));
    OK(pente_sgd_get_info(sgd, &info));
    assert_true(info.step_count >= 0);
}

static size_t header_end(const bytes *b) {
    return 8 + (size_t)b->data[0] + ((size_t)b->data[1] << 8) + ((size_t)b->data[2] << 16);
}

/* The file with some text put in at a place of its header, whose length is corrected. */
static bytes with_text(const bytes *good, size_t at, const char *text) {
    size_t added = strlen(text), length = header_end(good) - 8 + added;
    bytes b = {malloc(good->size + added), good->size + added};
    if (!b.data) abort();
    memcpy(b.data, good->data, at);
    memcpy(b.data + at, text, added);
    memcpy(b.data + at + added, good->data + at, good->size - at);
    for (int i = 0; i < 8; i++) b.data[i] = (unsigned char)(length >> (8 * i));
    return b;
}

static void test_changed_files(void **state) {
    (void)state;
    static const char *const texts[] = {"9", "-", "0", ".5", "e9", "99999999999999999999", "1e400", "[",
                                        "{", "]", "}", ",",  "\\", "\"",                   "\\\""};
    for (int nested = 0; nested < 2; nested++) {
        pente_layer *inner = CHAIN(linear_new(PENTE_FLOAT32, 2, 2, 1), activation_new(PENTE_FLOAT32, PENTE_LEAKY_RELU));
        pente_layer *there = nested ? CHAIN(scaler_new(PENTE_FLOAT32, 2), inner) : inner;
        pente_sgd *sgd = sgd_of(there, 0.1, 0.5);
        OK(pente_sgd_step(sgd));
        OK(pente_layer_save(there, sgd, path_of("good")));
        bytes good = bytes_of(path_of("good"));
        for (size_t at = 0; at < header_end(&good); at++) {
            unsigned char kept = good.data[at];
            for (int k = 0; k < 2; k++) {
                good.data[at] = k ? (unsigned char)(kept ^ 1 << random_below(8)) : (unsigned char)random_bits();
                load_changed(good.data, good.size, there, sgd);
            }
            good.data[at] = kept;
            if (at < 8) continue;
            bytes more = with_text(&good, at, texts[(size_t)random_below(COUNT(texts))]);
            load_changed(more.data, more.size, there, sgd);
            bytes_free(&more);
        }
        load_changed(good.data, good.size, there, sgd);
        assert_true(counts[0] > 1 && counts[1] > 1000 && counts[2] == 0);
        bytes_free(&good);
        OK(pente_sgd_free(sgd));
        OK(pente_layer_free(there));
    }
}

/* The file with each of some words in its header replaced by another. */
static bytes with_word(const bytes *good, const char *word, const char *other) {
    bytes b = {malloc(good->size + 100), 0};
    if (!b.data) abort();
    memcpy(b.data, good->data, 8);
    b.size = 8;
    for (size_t at = 8; at < good->size; b.size++, at++) {
        bool is_there = at < header_end(good) && !strncmp((const char *)good->data + at, word, strlen(word));
        if (is_there) {
            memcpy(b.data + b.size, other, strlen(other));
            b.size += strlen(other) - 1;
            at += strlen(word) - 1;
        } else {
            b.data[b.size] = good->data[at];
        }
    }
    size_t length = header_end(good) - 8 + b.size - good->size;
    for (int i = 0; i < 8; i++) b.data[i] = (unsigned char)(length >> (8 * i));
    return b;
}

/* Words of a description that say what no layer and no optimizer is. */
static void test_bad_descriptions(void **state) {
    (void)state;
    static const struct {
        const char *word, *other;
        bool is_of_sgd;
    } cases[] = {
        {"leaky_relu", "leaky", false}, {"linear", "Linear", false}, {"chain", "custom", false},
        {"\\\"float32", "\\\"float64", false}, {"\\\"float32", "\\\"float16", false}, {"\\\"dtype", "\\\"type", false},
        {"in_features\\\":2", "in_features\\\":3", false}, {"in_features\\\":2", "in_features\\\":0", false},
        {"in_features\\\":2", "in_features\\\":-2", false}, {"in_features\\\":2", "in_features\\\":2.0", false},
        {"out_features\\\":2", "out_features\\\":3", false}, {"in_features", "features", false},
        {"bias\\\":true", "bias\\\":false", false}, {"bias\\\":true", "bias\\\":1", false},
        {"slope\\\":0.01", "slope\\\":1e39", false}, {"slope\\\":0.01", "slope\\\":nan", false},
        {"slope\\\":0.01", "slope\\\":\\\"0.01\\\"", false}, {"\\\"features\\\":2", "\\\"features\\\":1", false},
        {"lr\\\":0.1", "lr\\\":-0.1", true}, {"lr\\\":0.1", "lr\\\":1e400", true}, {"lr\\\":0.1", "rate\\\":0.1", true},
        {"\\\"momentum\\\":0.5", "\\\"momentum\\\":-0.5", true}, {"nesterov\\\":false", "nesterov\\\":0", true},
        {"weight_decay\\\":0", "weight_decay\\\":-1", true}, {"dampening\\\":0", "dampening\\\":null", true},
        {"step_count\\\":1", "step_count\\\":-1", true}, {"step_count\\\":1", "step_count\\\":1.5", true},
        {"step_count\\\":1", "step_count\\\":9223372036854775808", true}, {"groups\\\":[", "groups\\\":[{},", true},
        {"[\\\"1.0.weight", "[\\\"1.0.bias", true}, {"[\\\"1.0.weight\\\",", "[", true},
        {"sgd.1.0.weight.momentum_buffer", "sgd.1.0.weight.momentum", true},
    };
    pente_layer *layer = CHAIN(scaler_new(PENTE_FLOAT32, 2), CHAIN(linear_new(PENTE_FLOAT32, 2, 2, 1)),
                               activation_new(PENTE_FLOAT32, PENTE_LEAKY_RELU));
    pente_sgd *sgd = sgd_of(layer, 0.1, 0.5);
    OK(pente_sgd_step(sgd));
    OK(pente_layer_save(layer, sgd, path_of("good")));
    bytes good = bytes_of(path_of("good"));
    fill_gradients(layer);
    snapshot before = snapshot_new(layer);
    for (size_t i = 0; i < COUNT(cases); i++) {
        bytes bad = with_word(&good, cases[i].word, cases[i].other);
        pente_layer *loaded = NULL;
        assert_non_null(strstr((const char *)good.data + 8, cases[i].word));
        write_bytes(path_of("bad"), bad.data, bad.size);
        pente_status status = cases[i].is_of_sgd ? pente_layer_load_parameters(layer, sgd, path_of("bad"))
                                                 : pente_layer_load(path_of("bad"), &loaded);
        if (status != PENTE_INVALID_FILE && status != PENTE_SHAPE_MISMATCH && status != PENTE_DTYPE_MISMATCH) {
            fail_msg("%s for %s: %s", cases[i].other, cases[i].word, pente_status_name(status));
        }
        assert_true(is_as_in(layer, &before));
        bytes_free(&bad);
    }
    bytes_free(&good);
    snapshot_free(&before);
    OK(pente_sgd_free(sgd));
    OK(pente_layer_free(layer));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_deep_nesting),
        cmocka_unit_test(test_many_layers),
        cmocka_unit_test(test_many_names),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_changed_files),
        cmocka_unit_test(test_bad_descriptions),
    };
    return cmocka_run_group_tests_name("bad files", tests, directory_new, directory_free);
}
