#define _XOPEN_SOURCE 700 /* mkdtemp, nftw */
#include "files.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[1000];

int directory_new(void **state) {
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/pente-test-XXXXXX", parent && *parent ? parent : "/tmp");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where) {
    (void)status, (void)type, (void)where;
    return remove(path);
}

int directory_free(void **state) {
    (void)state;
    return nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *path_of(const char *name) {
    static char paths[8][2000];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

int count_files(void) {
    DIR *entries = opendir(directory);
    int count = 0;
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries));) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(entries);
    return count;
}

bytes bytes_of(const char *path) {
    FILE *file = fopen(path, "rb");
    bytes b = {NULL, 0};
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    b.size = (size_t)ftell(file);
    rewind(file);
    b.data = malloc(b.size + 1);
    if (!b.data) abort();
    assert_int_equal(fread(b.data, 1, b.size, file), b.size);
    b.data[b.size] = 0; /* so that it can be searched as a string */
    fclose(file);
    return b;
}

void write_bytes(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void bytes_free(bytes *b) {
    free(b->data);
    b->data = NULL;
}

bool holds(const char *path, const bytes *expected) {
    bytes now = bytes_of(path);
    bool same = now.size == expected->size && memcmp(now.data, expected->data, now.size) == 0;
    bytes_free(&now);
    return same;
}

void write_safetensors(const char *path, const char *header, pente_dtype dtype, size_t count) {
    size_t length = strlen(header), size = count * element_size(dtype);
    unsigned char *data = malloc(8 + length + size);
    if (!data) abort();
    for (int i = 0; i < 8; i++) data[i] = (unsigned char)(length >> (8 * i));
    for (size_t i = 0; i < length; i++) data[8 + i] = (unsigned char)(header[i] == '\'' ? '"' : header[i]);
    for (size_t i = 0; i < count; i++) { /* the header's length may be odd, so the numbers lie anywhere */
        float single = (float)i;
        double wide = (double)i;
        const void *number = dtype == PENTE_FLOAT32 ? (const void *)&single : &wide;
        memcpy(data + 8 + length + i * element_size(dtype), number, element_size(dtype));
    }
    write_bytes(path, data, 8 + length + size);
    free(data);
}

void write_npy(const char *path, const pente_matrix *matrix) {
    char text[128], header[256];
    int length = snprintf(text, sizeof text, "{'descr': '<f%d', 'fortran_order': False, 'shape': (%lld, %lld), }",
                          (int)element_size(matrix->dtype), (long long)matrix->rows, (long long)matrix->columns);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    memset(header, ' ', 128);
    memcpy(header, "\x93NUMPY\1\0\x76\0", 10);
    memcpy(header + 10, text, (size_t)length);
    header[127] = '\n';
    assert_int_equal(fwrite(header, 1, 128, file), 128);
    for (int64_t row = 0; row < matrix->rows; row++) {
        const char *start = (const char *)matrix->data + (size_t)(row * matrix->row_stride) * element_size(matrix->dtype);
        size_t count = (size_t)matrix->columns;
        assert_int_equal(fwrite(start, element_size(matrix->dtype), count, file), count);
    }
    assert_int_equal(fclose(file), 0);
}
