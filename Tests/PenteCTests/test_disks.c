/* Each system call of a save fails in its turn, or the process is killed before it: the old file is there, or the new
 * one, whole. The calls are libc's, in whose place this program puts its own. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "files.h"
#include "layers.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- A disk that fails ---- */

enum { KILL = -1, SHORT = -2, NOTHING = -3 }; /* instead of an errno */

static _Thread_local bool watching;           /* within a save */
static _Thread_local int calls, failing, how; /* the how-manieth fails, and how */
static _Thread_local const char *failed;      /* its name */
static _Thread_local bool is_moved, was_moved; /* the new file is in place: now, and when the call failed */
static _Thread_local char order[1000];        /* the calls' names */

static bool fails(const char *name) {
    if (!watching) return false;
    size_t used = strlen(order);
    snprintf(order + used, sizeof order - used, "%s ", name);
    if (++calls != failing) return false;
    failed = name, was_moved = is_moved;
    if (how == KILL) raise(SIGKILL);
    if (how > 0) errno = how;
    return how > 0;
}

#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))
#define FAILING(name, parameters, ...) \
    int name parameters { return fails(#name) ? -1 : REAL(name)(__VA_ARGS__); }

FAILING(fsync, (int file), file)
FAILING(fchmod, (int file, mode_t mode), file, mode)
FAILING(unlink, (const char *path), path)
FAILING(getentropy, (void *buffer, size_t size), buffer, size)
FAILING(stat, (const char *path, struct stat *status), path, status)
FAILING(lstat, (const char *path, struct stat *status), path, status)

int rename(const char *old, const char *new) {
    int result = fails("rename") ? -1 : REAL(rename)(old, new);
    is_moved = result == 0;
    return result;
}

/* Of a close that fails, the number is free all the same. */
int close(int file) {
    bool is_failing = fails("close");
    int error = errno, result = REAL(close)(file);
    if (is_failing) errno = error;
    return is_failing ? -1 : result;
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return fails("open") ? -1 : REAL(open)(path, flags, mode);
}

char *realpath(const char *path, char *resolved) {
    return fails("realpath") ? NULL : REAL(realpath)(path, resolved);
}

ssize_t write(int file, const void *data, size_t size) {
    if (fails("write")) return -1;
    bool is_this = watching && calls == failing;
    if (is_this && how == NOTHING) return 0;
    return REAL(write)(file, data, is_this && how == SHORT ? (size + 1) / 2 : size);
}

/* ---- What a save leaves ---- */

typedef struct disk {
    pente_layer *old, *new;
    pente_sgd *sgd;
    bytes old_bytes, new_bytes;
    const char *path; /* may be a link */
    bool is_there;    /* the old one */
} disk;

static pente_status save(const disk *disk, int call, int error) {
    calls = 0, failing = call, how = error, failed = NULL, is_moved = was_moved = false, order[0] = 0;
    watching = true;
    pente_status status = pente_layer_save(disk->new, disk->sgd, disk->path);
    watching = false;
    return status;
}

static void restore(const disk *disk) {
    remove(path_of("model"));
    if (disk->is_there) write_bytes(path_of("model"), disk->old_bytes.data, disk->old_bytes.size);
}

static bool is_old(const disk *disk) {
    if (!disk->is_there) return access(path_of("model"), F_OK) != 0;
    return holds(path_of("model"), &disk->old_bytes);
}

static bool is_new(const disk *disk) {
    return access(path_of("model"), F_OK) == 0 && holds(path_of("model"), &disk->new_bytes);
}

/* Whether the save made so many calls that one of this number failed. */
static bool fail_call(const disk *disk, int call, int error) {
    restore(disk);
    int before = count_files();
    errno = 0;
    alarm(60); /* nobody asks for ever */
    pente_status status = save(disk, call, error);
    int found = errno;
    alarm(0);
    if (!failed) return false;
    bool is_whole = status == PENTE_OK ? is_new(disk) : is_old(disk);
    /* A file that cannot be removed stays; that needs a second failure. */
    bool is_clean = count_files() == before + (status == PENTE_OK && !disk->is_there);
    bool is_told = status == PENTE_OK || (status == PENTE_FILE_ERROR && (error < 0 || found == error));
    /* To be interrupted is no failure, nor is a short write; that the directory's name is not on the disk yet is not
     * told. */
    static const char *const needed = "open getentropy write fsync close rename";
    bool goes_on = error == EINTR ? strchr("wfc", failed[0]) != NULL || !strcmp(failed, "open") : error == SHORT;
    if (goes_on && strcmp(failed, "fchmod") != 0 && status != PENTE_OK) is_told = false;
    bool is_failure = error > 0 ? !goes_on : error == NOTHING && !strcmp(failed, "write");
    if (is_failure && !was_moved && strstr(needed, failed) && status == PENTE_OK) is_told = false;
    if (!is_whole || !is_clean || !is_told)
        fail_msg("%s, call %d, fails with %d: %s, errno %d, whole %d, clean %d", failed, call, error,
                 pente_status_name(status), found, is_whole, is_clean);
    return true;
}

/* What a killed save has left: ".pente-" and sixteen letters. */
static void remove_left(void) {
    glob_t left;
    if (glob(path_of(".pente-????????????????"), 0, NULL, &left) != 0) return;
    for (size_t i = 0; i < left.gl_pathc; i++) remove(left.gl_pathv[i]);
    globfree(&left);
}

/* Whether the save made so many calls that it was killed. */
static bool kill_at(const disk *disk, int call) {
    int status = 0;
    restore(disk);
    pid_t child = fork();
    if (child == 0) {
        (void)save(disk, call, KILL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    bool was_killed = WIFSIGNALED(status);
    assert_true(was_killed ? is_old(disk) || is_new(disk) : is_new(disk));
    /* What may be left is in nobody's way, and has a name by which it is known. */
    assert_int_equal(save(disk, 0, 0), PENTE_OK);
    assert_true(is_new(disk));
    remove_left();
    assert_int_equal(count_files(), disk->path[strlen(disk->path) - 1] == 'k' ? 2 : 1); /* a link's own entry */
    return was_killed;
}

static void test_every_call(void **state) {
    (void)state;
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EINTR, EACCES, EROFS, EMFILE, SHORT, NOTHING};
    char path[2000], link[2000];
    disk disk = {.old = linear_new(PENTE_FLOAT32, 3, 2, 1), .new = tall_chain_new(PENTE_FLOAT64, 2)};
    disk.sgd = sgd_of(disk.new, 0.1, 0.5);
    OK(pente_sgd_step(disk.sgd));
    snprintf(path, sizeof path, "%s", path_of("model"));
    snprintf(link, sizeof link, "%s", path_of("link"));
    OK(pente_layer_save(disk.old, NULL, path));
    disk.old_bytes = bytes_of(path);
    OK(pente_layer_save(disk.new, disk.sgd, path));
    disk.new_bytes = bytes_of(path);
    int tried = 0, killed = 0;
    for (int place = 0; place < 3; place++) { /* a new file, an old one, and one behind a link */
        if (place == 2) assert_int_equal(symlink("model", link), 0);
        disk.path = place == 2 ? link : path;
        disk.is_there = place > 0;
        restore(&disk);
        assert_int_equal(save(&disk, 0, 0), PENTE_OK);
        /* The bytes are on the disk before the name is theirs; and then the name. */
        const char *synced = strstr(order, " fsync close rename ");
        if (!synced || !strstr(synced, "rename open fsync close ")) fail_msg("the calls are %s", order);
        for (size_t i = 0; i < COUNT(errors); i++)
            for (int call = 1; fail_call(&disk, call, errors[i]); call++) tried++;
        for (int call = 1; kill_at(&disk, call); call++) killed++;
    }
    assert_true(tried > 300 && killed > 40);
    print_message("%d failures and %d kills\n", tried, killed);
    remove(link);
    remove(path);
    bytes_free(&disk.old_bytes);
    bytes_free(&disk.new_bytes);
    OK(pente_sgd_free(disk.sgd));
    OK(pente_layer_free(disk.old));
    OK(pente_layer_free(disk.new));
}

/* ---- Two at a time ---- */

static int saves = 100;
static bytes versions[4]; /* of two processes' two threads */

typedef struct writer {
    int number;
    bool is_right;
    pthread_t thread;
} writer;

static void *write_often(void *data) {
    writer *w = data;
    pente_linear_options options = PENTE_LINEAR_OPTIONS_INIT;
    pente_layer *layer = NULL;
    options.seed = (uint64_t)w->number;
    char path[2000];
    snprintf(path, sizeof path, "%s", path_of("shared"));
    w->is_right = pente_linear_new(40, 50 + w->number, &options, &layer) == PENTE_OK;
    for (int i = 0; i < saves && w->is_right; i++) w->is_right = pente_layer_save(layer, NULL, path) == PENTE_OK;
    pente_layer_free(layer);
    return NULL;
}

/* Two threads that save; whether all saves went well. */
static bool write_in_pairs(int first) {
    writer writers[2] = {{.number = first}, {.number = first + 1}};
    for (int i = 0; i < 2; i++)
        if (pthread_create(&writers[i].thread, NULL, write_often, &writers[i])) abort();
    for (int i = 0; i < 2; i++) pthread_join(writers[i].thread, NULL);
    return writers[0].is_right && writers[1].is_right;
}

static bool is_one_of(const bytes *found) {
    for (int i = 0; i < 4; i++)
        if (found->size == versions[i].size && !memcmp(found->data, versions[i].data, found->size)) return true;
    return false;
}

static void test_at_the_same_time(void **state) {
    (void)state;
    int many = saves, looks = 0;
    saves = 1;
    for (int i = 0; i < 4; i++) {
        writer w = {.number = i};
        write_often(&w);
        versions[i] = bytes_of(path_of("shared"));
    }
    saves = many;
    pid_t children[2];
    for (int i = 0; i < 2; i++)
        if ((children[i] = fork()) == 0) _exit(write_in_pairs(2 * i) ? 0 : 1);
    for (int ended = 0; ended < 2; looks++) {
        int status = 0;
        bytes found = bytes_of(path_of("shared"));
        assert_true(is_one_of(&found));
        bytes_free(&found);
        if (waitpid(-1, &status, WNOHANG) > 0) {
            assert_int_equal(status, 0);
            ended++;
        }
    }
    print_message("%d saves, %d looks at them\n", 4 * saves, looks);
    assert_int_equal(count_files(), 1);
    for (int i = 0; i < 4; i++) bytes_free(&versions[i]);
    remove(path_of("shared"));
}

/* test_disks [SAVES]: how many each of the four writers makes. */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call),
        cmocka_unit_test(test_at_the_same_time),
    };
    if (argc > 1) saves = atoi(argv[1]);
    return cmocka_run_group_tests_name("disks", tests, directory_new, directory_free);
}
