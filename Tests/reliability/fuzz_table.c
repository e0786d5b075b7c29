/* Files for the examples' reader of CSV, bindings/c/table.c: what it takes is what a plainer reader takes, and the same
 * numbers; what it does not take is an error, of which it says where. */
#include "fuzz.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include "table.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed) {
    static const char *const words[] = {",", "\n", "\r\n", "\r", "1", "-2.5", "1e308", "1e-320", "1e999", "nan", "inf",
                                        "0x1p-3", " ", "\"1\"", ",,,,,,,,,,,,", "\n\n\n\n\n\n\n\n", "+", ".", "e5",
                                        "0.1000000000000000055511151231257827", "\xef\xbb\xbf"};
    const char *word = words[seed / 8 % (sizeof words / sizeof *words)];
    size_t length = strlen(word), at = seed / 256 % (size + 1);
    if (seed % 8 < 4 || size + length > capacity) return LLVMFuzzerMutate(data, size, capacity);
    memmove(data + at + length, data + at, size - at);
    memcpy(data + at, word, length);
    return size + length;
}

/* One number, and nothing else, up to `end`. */
static int cell(const char *at, const char *end, double *value) {
    char *after;
    if (at == end || isspace((unsigned char)*at)) return 0;
    *value = strtod(at, &after);
    return after == end && isfinite(*value);
}

/* Cell by cell, with as many in each line as the header has; -1 if it is not so, there are no lines, or a NUL is there. */
static int64_t plain(char *text, size_t size, int64_t *columns, double *values) {
    char *line = memchr(text, '\n', size), *end = text + size;
    int64_t count = 0, rows = 0;
    if (memchr(text, 0, size)) return -1;
    *columns = 1;
    for (char *c = text; c < (line ? line : end); c++) *columns += *c == ',';
    for (line = line ? line + 1 : end; line < end; rows++) {
        char *next = memchr(line, '\n', (size_t)(end - line)), *last = next ? next : end;
        next = next ? next + 1 : end;
        if (last > line && last[-1] == '\r') last--;
        for (int64_t j = 0; j < *columns; j++) {
            char *comma = j + 1 < *columns ? memchr(line, ',', (size_t)(last - line)) : last;
            if (!comma || !cell(line, comma, &values[count++])) return -1;
            line = comma + 1;
        }
        line = next;
    }
    return rows > 0 ? rows : -1;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    stderr = fopen("/dev/null", "w"); /* the reader's stream, and not the descriptor, on which others say what is wrong */
    REQUIRE(stderr);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_file("input.csv", data, size);
    numbers n = {0, 0, NULL};
    table t = {0, 0, 0, NULL, NULL};
    int64_t columns;
    char *text = malloc(size + 1);
    double *values = malloc((size + 1) * sizeof *values);
    REQUIRE(text && values);
    memcpy(text, data, size);
    text[size] = 0;
    int64_t rows = plain(text, size, &columns, values);
    int status = numbers_read(&n, path), table_status = table_read(&t, path, 1);
    REQUIRE(status == (rows > 0 ? 0 : -1));
    if (status == 0) {
        accepted++;
        REQUIRE(n.rows == rows && n.columns == columns);
        REQUIRE(memcmp(n.values, values, (size_t)(rows * columns) * sizeof *values) == 0);
        numbers_free(&n);
    }
    REQUIRE(n.values == NULL);
    if (table_status == 0) {
        REQUIRE(status == 0 && t.rows == rows && t.features == columns - 1 && t.targets == 1);
        for (int64_t i = 0; i < rows; i++) REQUIRE(isfinite(t.y[i]) && isfinite(t.x[i]));
        table_free(&t);
    }
    free(text);
    free(values);
    return 0;
}
