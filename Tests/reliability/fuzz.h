/* What the fuzzers share: a file in memory for each input, and what a fuzzer says when it has found something. Compiled
 * with -fsanitize=fuzzer a fuzzer is libFuzzer's; with replay.c it runs a corpus, and changes of it, without. */
#ifndef PENTE_FUZZ_H
#define PENTE_FUZZ_H

#define _XOPEN_SOURCE 700 /* dprintf, mkdtemp, nftw */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);

/* A finding: abort() is what libFuzzer keeps the input for. */
#define REQUIRE(condition)                                                         \
    do {                                                                           \
        if (!(condition)) {                                                        \
            dprintf(2, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                               \
        }                                                                          \
    } while (0)

/* How many inputs were good ones. */
extern long accepted;

/* A new directory for the process, in memory if the system has such; it is left empty, and removed at exit. */
const char *fuzz_directory(void);

/* Puts the bytes into the file of that name in the directory; returns its path, which stays as it is. */
const char *fuzz_file(const char *name, const uint8_t *data, size_t size);

/* The path of a file of that name. */
const char *fuzz_path(const char *name);

#endif
