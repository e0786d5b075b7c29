#define _XOPEN_SOURCE 700 /* mkdtemp, nftw */
#include "fuzzer.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[256];
static const char *const names[] = {"a", "b", "c", "link", "dangling", "folder"};
enum { FILES = 3 };

static char *in_directory(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where) {
    (void)status, (void)type, (void)where;
    return remove(path);
}

static void directory_free(void) {
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void directory_new(void) {
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/pente-fuzz-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!mkdtemp(directory) || atexit(directory_free)) abort();
    if (symlink("a", in_directory("link")) || symlink("nowhere", in_directory("dangling"))) abort();
    if (mkdir(in_directory("folder"), 0700)) abort();
}

void files_begin(void) {
    if (!*directory) directory_new();
    for (int i = 0; i < FILES; i++) unlink(in_directory(names[i]));
}

char *path_argument(void) {
    static const char *const elsewhere[] = {"", "/", "/dev/null", "/dev/full", "/no/such/folder/a", "\xff\xfe/a"};
    if (!hostile()) {
        const char *path = in_directory(names[below(FILES + 1)]);
        return strcpy(carve(strlen(path) + 1), path);
    }
    int choice = below(2 + (int)COUNT(elsewhere) + (int)COUNT(names));
    if (choice == 0) return NULL;
    if (choice == 1) {
        char *endless = memset(carve(6000), 'p', 6000);
        endless[5999] = 0;
        return endless;
    }
    choice -= 2;
    const char *path = choice < (int)COUNT(elsewhere) ? elsewhere[choice]
                                                      : in_directory(names[choice - (int)COUNT(elsewhere)]);
    return strcpy(carve(strlen(path) + 1), path);
}

char *npy_argument(pente_dtype dtype, int64_t rows, int64_t columns) {
    char text[128], header[129];
    size_t size = (size_t)(rows * columns) * (dtype == PENTE_FLOAT32 ? 4 : 8);
    char *zeros = calloc(size, 1), *path = in_directory(names[below(FILES)]);
    snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': %s, 'shape': (%lld, %lld)}",
             dtype == PENTE_FLOAT32 ? "<f4" : "<f8", hostile() ? "True" : "False", (long long)rows, (long long)columns);
    snprintf(header, sizeof header, "%-118s", text);
    FILE *file = fopen(path, "wb");
    if (!zeros || !file || fwrite("\x93NUMPY\1\0\x76\0", 10, 1, file) != 1 || fwrite(header, 118, 1, file) != 1 ||
        fwrite(zeros, 1, size, file) != size || fclose(file))
        abort();
    free(zeros);
    return strcpy(carve(strlen(path) + 1), path);
}

/* Changes some bytes of a file, or cuts it. */
void spoil_file(void) {
    int file = open(in_directory(names[below(FILES)]), O_RDWR);
    if (file < 0) return;
    off_t size = lseek(file, 0, SEEK_END);
    if (size > 0) {
        off_t place = (below(256) << 8 | below(256)) % size;
        uint8_t changed = byte();
        if (one_in(8)) {
            if (ftruncate(file, place)) abort();
        } else if (pwrite(file, &changed, 1, place) != 1) {
            abort();
        }
    }
    close(file);
}

/* Nothing but the files that were asked for. */
void check_directory(void) {
    DIR *entries = opendir(directory);
    if (!entries) abort();
    for (struct dirent *entry; (entry = readdir(entries));) {
        bool known = entry->d_name[0] == '.' && (!entry->d_name[1] || !strcmp(entry->d_name, ".."));
        for (size_t i = 0; i < COUNT(names); i++) known |= !strcmp(entry->d_name, names[i]);
        PROMISED(known, "left a file %s behind", entry->d_name);
    }
    closedir(entries);
}
