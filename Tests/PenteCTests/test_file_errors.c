/* File systems that refuse: a status, errno, the old file as it was, and nothing left behind. */
#define _GNU_SOURCE /* setgroups, getdtablesize */
#include "files.h"
#include "layers.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* PENTE_FILE_ERROR, with an errno and a message that shows the path's beginning. */
static void expect_error(pente_status status, int expected, const char *function, const char *path) {
    int error = errno;
    if (status != PENTE_FILE_ERROR || error != expected) {
        fail_msg("%s of %.60s: %s, errno %s and not %s; %s", function, path, pente_status_name(status), strerror(error),
                 strerror(expected), pente_last_error());
    }
    assert_int_equal(strncmp(pente_last_error(), function, strlen(function)), 0);
    char start[61];
    snprintf(start, sizeof start, "%s", path);
    assert_non_null(strstr(pente_last_error(), start));
}

static int open_files(void) {
    int count = 0;
    for (int file = 0; file < 256; file++) count += fcntl(file, F_GETFD) >= 0;
    return count;
}

/* All three functions give this errno for this path. */
static void check_path(const char *path, int save_error, int load_error) {
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1), *none = NULL;
    snapshot before = snapshot_new(layer);
    int opened = open_files();
    if (save_error) {
        errno = 0;
        pente_status status = pente_layer_save(layer, NULL, path);
        expect_error(status, save_error, "pente_layer_save", path);
    }
    errno = 0;
    pente_status status = pente_layer_load(path, &none);
    expect_error(status, load_error, "pente_layer_load", path);
    errno = 0;
    status = pente_layer_load_parameters(layer, NULL, path);
    expect_error(status, load_error, "pente_layer_load_parameters", path);
    assert_null(none);
    assert_true(is_as_in(layer, &before));
    assert_int_equal(open_files(), opened);
    snapshot_free(&before);
    OK(pente_layer_free(layer));
}

static void test_paths(void **state) {
    (void)state;
    char too_long[300], beyond[9000];
    memset(too_long, 'n', sizeof too_long);
    too_long[256] = 0; /* a name may have 255 bytes */
    memset(beyond, '/', sizeof beyond);
    memcpy(beyond + sizeof beyond - 5, "name", 5);
    write_bytes(path_of("file"), "no layer", 8);
    assert_int_equal(mkdir(path_of("folder"), 0700), 0);
    assert_int_equal(symlink("loop", path_of("loop")), 0);
    check_path("", ENOENT, ENOENT);
    check_path(path_of("missing/file"), ENOENT, ENOENT);
    check_path(path_of("file/file"), ENOTDIR, ENOTDIR);
    check_path(path_of("folder"), EISDIR, EISDIR);
    check_path(path_of(too_long), ENAMETOOLONG, ENAMETOOLONG);
    check_path(beyond, ENAMETOOLONG, ENAMETOOLONG);
    check_path(path_of("missing"), 0, ENOENT);
    check_path(path_of("loop"), 0, ELOOP);
    assert_int_equal(count_files(), 3);
    assert_int_equal(rmdir(path_of("folder")), 0); /* nothing was left in there either */
    remove(path_of("file"));
    remove(path_of("loop"));
}

/* Names that are no UTF-8, that are long, that begin with a dot or a dash: a path is the system's. */
static void test_odd_names(void **state) {
    (void)state;
    char longest[256];
    memset(longest, 'n', sizeof longest);
    longest[255] = 0;
    const char *const names[] = {"\xff\xfe", "a b\n%s", ".hidden", "-", "\u00e9", longest};
    for (size_t i = 0; i < COUNT(names); i++) {
        pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1), *loaded = NULL;
        OK(pente_layer_save(layer, NULL, path_of(names[i])));
        OK(pente_layer_load(path_of(names[i]), &loaded));
        assert_true(same_layers(layer, loaded));
        assert_int_equal(count_files(), 1);
        assert_int_equal(remove(path_of(names[i])), 0);
        OK(pente_layer_free(layer));
        OK(pente_layer_free(loaded));
    }
    /* A path without a directory. */
    char *former = getcwd(NULL, 0);
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1);
    assert_non_null(former);
    assert_int_equal(chdir(path_of(".")), 0);
    OK(pente_layer_save(layer, NULL, "plain"));
    OK(pente_layer_load_parameters(layer, NULL, "plain"));
    assert_int_equal(remove("plain"), 0);
    assert_int_equal(chdir(former), 0);
    free(former);
    OK(pente_layer_free(layer));
}

/* A file is made as any other is: who may read it is the umask's to say. */
static void test_mode(void **state) {
    (void)state;
    static const mode_t masks[] = {022, 027, 077, 0};
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1);
    for (size_t i = 0; i < COUNT(masks); i++) {
        struct stat status;
        mode_t former = umask(masks[i]);
        OK(pente_layer_save(layer, NULL, path_of("mode")));
        umask(former);
        assert_int_equal(stat(path_of("mode"), &status), 0);
        assert_int_equal(status.st_mode & 0777, 0666 & ~masks[i]);
        assert_int_equal(remove(path_of("mode")), 0);
    }
    OK(pente_layer_free(layer));
}

/* What takes the place of an old file has its permissions: what was private stays so. */
static void test_mode_of_an_old_file(void **state) {
    (void)state;
    static const mode_t modes[] = {0600, 0640, 0644, 0664, 0200};
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1);
    for (size_t i = 0; i < COUNT(modes); i++) {
        struct stat status;
        write_bytes(path_of("mode"), "old", 3);
        assert_int_equal(chmod(path_of("mode"), modes[i]), 0);
        OK(pente_layer_save(layer, NULL, path_of("mode")));
        assert_int_equal(stat(path_of("mode"), &status), 0);
        assert_int_equal(status.st_mode & 07777, modes[i]);
        assert_int_equal(remove(path_of("mode")), 0);
    }
    OK(pente_layer_free(layer));
}

/* Where the path is a link, or a link to one, it stays, and the file that it leads to is replaced. */
static void test_links(void **state) {
    (void)state;
    struct stat status;
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1), *loaded = NULL;
    pente_layer *other = linear_new(PENTE_FLOAT32, 3, 2, 2);
    assert_int_equal(mkdir(path_of("folder"), 0700), 0);
    OK(pente_layer_save(layer, NULL, path_of("folder/file")));
    assert_int_equal(symlink("folder/file", path_of("relative")), 0);
    assert_int_equal(symlink(path_of("relative"), path_of("link")), 0);
    OK(pente_layer_save(other, NULL, path_of("link")));
    assert_int_equal(lstat(path_of("link"), &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_int_equal(lstat(path_of("relative"), &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    OK(pente_layer_load(path_of("folder/file"), &loaded));
    assert_true(same_layers(loaded, other));
    OK(pente_layer_load_parameters(layer, NULL, path_of("link")));
    assert_true(same_layers(layer, other));
    assert_int_equal(count_files(), 3);
    assert_int_equal(remove(path_of("folder/file")), 0);
    assert_int_equal(rmdir(path_of("folder")), 0); /* it held nothing else */
    /* A link that leads nowhere: either the file is made there, or nothing is. */
    errno = 0;
    assert_int_equal(symlink("nowhere", path_of("dangling")), 0);
    pente_status saved = pente_layer_save(layer, NULL, path_of("dangling"));
    assert_true(saved == PENTE_OK || (saved == PENTE_FILE_ERROR && errno == ENOENT));
    assert_int_equal(access(path_of("nowhere"), F_OK), saved == PENTE_OK ? 0 : -1);
    assert_int_equal(lstat(path_of("dangling"), &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    const char *const names[] = {"link", "relative", "dangling", "nowhere"};
    for (size_t i = 0; i < COUNT(names); i++) remove(path_of(names[i]));
    pente_layer *layers[] = {layer, other, loaded};
    for (size_t i = 0; i < COUNT(layers); i++) OK(pente_layer_free(layers[i]));
}

/* What is no regular file stays what it is; nobody waits for it. */
static void test_no_regular_file(void **state) {
    (void)state;
    struct stat status;
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1), *none = NULL;
    assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
    alarm(60);
    REFUSED(PENTE_FILE_ERROR, pente_layer_save(layer, NULL, path_of("pipe")));
    REFUSED(PENTE_FILE_ERROR, pente_layer_load(path_of("pipe"), &none));
    REFUSED(PENTE_FILE_ERROR, pente_layer_load_parameters(layer, NULL, path_of("pipe")));
    REFUSED(PENTE_FILE_ERROR, pente_layer_load("/dev/zero", &none));
    alarm(0);
    assert_int_equal(lstat(path_of("pipe"), &status), 0);
    assert_true(S_ISFIFO(status.st_mode));
    assert_int_equal(count_files(), 1);
    remove(path_of("pipe"));
    OK(pente_layer_free(layer));
}

/* ---- A save that fails leaves the old file, and no other ---- */

static void test_no_room(void **state) {
    (void)state;
    pente_layer *small = linear_new(PENTE_FLOAT32, 3, 2, 1), *large = linear_new(PENTE_FLOAT32, 200, 300, 1);
    struct rlimit limit, former;
    OK(pente_layer_save(small, NULL, path_of("layer")));
    bytes old = bytes_of(path_of("layer"));
    int opened = open_files();
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &former), 0);
    static const rlim_t sizes[] = {0, 1, 100, 1000, 4096, 100000};
    for (size_t i = 0; i < 2 * COUNT(sizes); i++) {
        signal(SIGXFSZ, i % 2 ? SIG_IGN : SIG_DFL); /* which ends a process that does not look */
        limit = former;
        limit.rlim_cur = sizes[i / 2];
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        pente_status other = pente_layer_save(large, NULL, path_of("new"));
        errno = 0;
        pente_status status = pente_layer_save(large, NULL, path_of("layer"));
        int error = errno;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &former), 0);
        assert_int_equal(other, PENTE_FILE_ERROR);
        errno = error;
        expect_error(status, EFBIG, "pente_layer_save", path_of("layer"));
        assert_true(holds(path_of("layer"), &old));
        assert_int_equal(count_files(), 1);
        assert_int_equal(open_files(), opened);
    }
    signal(SIGXFSZ, handler);
    OK(pente_layer_save(large, NULL, path_of("layer")));
    OK(pente_layer_load_parameters(large, NULL, path_of("layer")));
    bytes_free(&old);
    OK(pente_layer_free(small));
    OK(pente_layer_free(large));
    remove(path_of("layer"));
}

/* No further file may be opened. */
static void test_no_descriptor(void **state) {
    (void)state;
    struct rlimit limit, former;
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1), *none = NULL;
    OK(pente_layer_save(layer, NULL, path_of("layer")));
    bytes old = bytes_of(path_of("layer"));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &former), 0);
    limit = former;
    limit.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    pente_status save = pente_layer_save(layer, NULL, path_of("layer"));
    int save_error = errno;
    pente_status load = pente_layer_load(path_of("layer"), &none);
    int load_error = errno;
    int probe = open(path_of("probe"), O_CREAT | O_WRONLY, 0600);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &former), 0);
    assert_true(probe < 0);
    assert_true(save == PENTE_FILE_ERROR && save_error == EMFILE && load == PENTE_FILE_ERROR && load_error == EMFILE);
    assert_true(holds(path_of("layer"), &old));
    /* Valgrind makes the file, and only then finds that there is no number left for it. */
    if (access(path_of("probe"), F_OK) != 0) assert_int_equal(count_files(), 1);
    bytes_free(&old);
    OK(pente_layer_free(layer));
    remove(path_of("layer"));
}

/* ---- What may not be read or written ---- */

enum { RIGHT, SAVED_THERE, SAVED_OVER, LOADED, STILL_ROOT };

/* What a user who is not root finds. */
static int try_as_nobody(pente_layer *layer) {
    pente_layer *none = NULL;
    if (geteuid() == 0 && (setgroups(0, NULL) || setgid(65534) || setuid(65534))) return STILL_ROOT;
    if (pente_layer_save(layer, NULL, path_of("folder/new")) != PENTE_FILE_ERROR || errno != EACCES) return SAVED_THERE;
    if (pente_layer_save(layer, NULL, path_of("folder/old")) != PENTE_FILE_ERROR || errno != EACCES) return SAVED_OVER;
    if (pente_layer_load(path_of("folder/old"), &none) != PENTE_FILE_ERROR || errno != EACCES) return LOADED;
    return RIGHT;
}

static void test_permissions(void **state) {
    (void)state;
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1);
    int status = 0;
    assert_int_equal(mkdir(path_of("folder"), 0755), 0);
    OK(pente_layer_save(layer, NULL, path_of("folder/old")));
    bytes old = bytes_of(path_of("folder/old"));
    assert_int_equal(chmod(path_of("."), 0755), 0);
    assert_int_equal(chmod(path_of("folder/old"), 0000), 0);
    assert_int_equal(chmod(path_of("folder"), 0555), 0);
    pid_t child = fork();
    if (child == 0) _exit(try_as_nobody(layer));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(path_of("folder"), 0755), 0);
    assert_int_equal(chmod(path_of("folder/old"), 0644), 0);
    assert_true(holds(path_of("folder/old"), &old));
    remove(path_of("folder/old"));
    assert_int_equal(rmdir(path_of("folder")), 0);
    bytes_free(&old);
    OK(pente_layer_free(layer));
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == STILL_ROOT) skip();
    assert_int_equal(WEXITSTATUS(status), RIGHT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),   cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_mode),    cmocka_unit_test(test_mode_of_an_old_file),
        cmocka_unit_test(test_links),   cmocka_unit_test(test_no_regular_file),
        cmocka_unit_test(test_no_room), cmocka_unit_test(test_no_descriptor),
        cmocka_unit_test(test_permissions),
    };
    return cmocka_run_group_tests_name("file errors", tests, directory_new, directory_free);
}
