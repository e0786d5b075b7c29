/* A fuzzer without libFuzzer: replay COUNT CORPUS runs each file of a folder, and then COUNT changes of them, always
 * the same ones. What fails is left in the file "failed", beside the corpus' folder of a run: build/fuzz. */
#include "fuzz.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MOST = 4096, CAPACITY = 1 << 16 };

static struct {
    uint8_t *data;
    size_t size;
} inputs[MOST];
static size_t count;
static uint8_t *running;
static size_t running_size;

static uint64_t draw(void) { /* splitmix64 */
    static uint64_t state;
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* What libFuzzer would do with bytes that it knows nothing of. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity) {
    size_t at = size ? draw() % size : 0, run = draw() % 16 + 1;
    switch (draw() % 4) {
    case 0: /* fewer bytes */
        run = run < size - at ? run : size - at;
        memmove(data + at, data + at + run, size - at - run);
        return size - run;
    case 1: /* more */
        if (size + run > capacity) return size;
        memmove(data + at + run, data + at, size - at);
        for (size_t i = 0; i < run; i++) data[at + i] = (uint8_t)draw();
        return size + run;
    case 2: /* another bit */
        if (size) data[at] ^= (uint8_t)(1 << draw() % 8);
        return size;
    default: /* another byte */
        if (size) data[at] = (uint8_t)draw();
        return size;
    }
}

static void read_corpus(const char *path) {
    struct dirent **entries;
    int found = scandir(path, &entries, NULL, alphasort); /* in one order everywhere */
    REQUIRE(found >= 0);
    for (int i = 0; i < found; i++) {
        char name[1000];
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        FILE *file = entries[i]->d_name[0] == '.' ? NULL : fopen(name, "rb");
        free(entries[i]);
        if (!file) continue;
        REQUIRE(count < MOST && (inputs[count].data = malloc(CAPACITY)) != NULL);
        inputs[count].size = fread(inputs[count].data, 1, CAPACITY, file);
        count++;
        fclose(file);
    }
    free(entries);
}

static void keep(int signal) {
    FILE *file = fopen("build/fuzz/failed", "wb");
    if (file && fwrite(running, 1, running_size, file) == running_size && fclose(file) == 0)
        fprintf(stderr, "signal %d; the input is build/fuzz/failed\n", signal);
    _exit(1);
}

static void run(uint8_t *data, size_t size) {
    running = data;
    running_size = size;
    alarm(10);
    LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    long changes = strtol(argv[1], NULL, 10);
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], keep);
    LLVMFuzzerInitialize(&argc, &argv);
    read_corpus(argv[2]);
    REQUIRE(count > 0);
    /* More than the whole process takes; and a header that promises more is not believed. */
    REQUIRE(setrlimit(RLIMIT_AS, &(struct rlimit){1 << 29, 1 << 29}) == 0);
    for (size_t i = 0; i < count; i++) run(inputs[i].data, inputs[i].size);
    long good = accepted;
    REQUIRE(good > 0);
    static uint8_t changed[CAPACITY];
    for (long i = 0; i < changes; i++) {
        size_t chosen = draw() % count, size = inputs[chosen].size;
        memcpy(changed, inputs[chosen].data, size);
        for (uint64_t times = draw() % 4 + 1; times > 0; times--)
            size = LLVMFuzzerCustomMutator(changed, size, CAPACITY, (unsigned)draw());
        run(changed, size);
    }
    alarm(0);
    printf("%s: %zu files, of which %ld load, and %ld changes of them, of which %ld do\n", argv[0], count, good, changes,
           accepted - good);
    REQUIRE(accepted - good >= changes / 100); /* or all else is said of refusals alone */
    return 0;
}
