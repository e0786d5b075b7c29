/* Files for the tests: a directory that goes when the tests are over, bytes, and safetensors written by hand. */
#ifndef PENTE_TEST_FILES_H
#define PENTE_TEST_FILES_H

#include "support.h"

/* For cmocka_run_group_tests: makes the directory, and removes it with all that is in it. */
int directory_new(void **state);
int directory_free(void **state);

/* The path of a name in the directory. It stays good until the eighth next call. */
const char *path_of(const char *name);

/* How many entries the directory has. */
int count_files(void);

typedef struct bytes {
    unsigned char *data;
    size_t size;
} bytes;

bytes bytes_of(const char *path);
void write_bytes(const char *path, const void *data, size_t size);
void bytes_free(bytes *bytes);
/* Does the file hold these bytes, and nothing more? */
bool holds(const char *path, const bytes *bytes);

/* As numpy.save writes it: version 1 of the format. */
void write_npy(const char *path, const pente_matrix *matrix);

/* Eight bytes of length, this header with " for each ', and so many numbers of the dtype: 0, 1, 2 ... */
void write_safetensors(const char *path, const char *header, pente_dtype dtype, size_t count);

#endif
