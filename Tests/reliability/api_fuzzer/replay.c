/* Runs a corpus, and some random bytes, through the fuzzer's harness without a fuzzer:
 *     replay CORPUS CALLS      all inputs, and random ones until so many calls are made
 *     replay --unpack CORPUS DIRECTORY
 *     replay --pack CORPUS FILE...
 * A corpus is one file: of each input the size, in two bytes, the lower first, and its bytes. */
#include "fuzzer.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { LONGEST = 0xffff };

static uint8_t input[LONGEST];

static FILE *must_open(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (!file) {
        perror(path);
        exit(1);
    }
    return file;
}

/* The size of the next input; 0 at the end. */
static size_t next_input(FILE *corpus) {
    int low = getc(corpus), high = getc(corpus);
    if (low == EOF || high == EOF) return 0;
    size_t size = (size_t)(high << 8 | low);
    return fread(input, 1, size, corpus) == size ? size : 0;
}

static int unpack(const char *corpus, const char *directory) {
    FILE *from = must_open(corpus, "rb");
    int number = 0;
    for (size_t size; (size = next_input(from)); number++) {
        char path[1000];
        snprintf(path, sizeof path, "%s/%d", directory, number);
        FILE *to = must_open(path, "wb");
        if (fwrite(input, 1, size, to) != size || fclose(to)) return 1;
    }
    fclose(from);
    return 0;
}

static int pack(const char *corpus, char **paths, int count) {
    FILE *to = must_open(corpus, "wb");
    for (int i = 0; i < count; i++) {
        FILE *from = must_open(paths[i], "rb");
        size_t size = fread(input, 1, sizeof input, from);
        fclose(from);
        if (!size) continue;
        putc((int)(size & 0xff), to);
        putc((int)(size >> 8), to);
        fwrite(input, 1, size, to);
    }
    return fclose(to) ? 1 : 0;
}

static int run_corpus(const char *path) {
    FILE *corpus = must_open(path, "rb");
    int count = 0;
    for (size_t size; (size = next_input(corpus)); count++) LLVMFuzzerTestOneInput(input, size);
    fclose(corpus);
    return count;
}

static void run_random(uint64_t calls) {
    uint64_t state = 1;
    while (calls_made < calls) {
        size_t size = 2048;
        for (size_t i = 0; i < size; i++) {
            state = state * 6364136223846793005 + 1442695040888963407;
            input[i] = (uint8_t)(state >> 56);
        }
        LLVMFuzzerTestOneInput(input, size);
    }
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "--unpack")) return unpack(argv[2], argv[3]);
    if (argc >= 3 && !strcmp(argv[1], "--pack")) return pack(argv[2], argv + 3, argc - 3);
    if (argc != 3) return 2;
    const struct rlimit memory = {INT64_C(4) << 30, INT64_C(4) << 30}; /* so that what asks for more gets none */
    if (setrlimit(RLIMIT_AS, &memory)) return 2;
    run_corpus(argv[1]);
    size_t in_use = mallinfo2().uordblks;
    int count = run_corpus(argv[1]);
    size_t leaked = mallinfo2().uordblks - in_use;
    run_random(strtoull(argv[2], NULL, 10));
    bool all_seen = print_counts();
    printf("fuzz-api: %d inputs; %zu bytes leaked\n", count, leaked);
    return leaked || !all_seen || !count;
}
