/* What a host may do to its process between calls: another locale, closed descriptors, no descriptors to be had, another
 * directory, another umask, no environment. */
#define _GNU_SOURCE /* clearenv */
#include "files.h"
#include "workout.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a child, for what cannot be taken back. */
static void check_in_child(bool (*is_well)(void)) {
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) _exit(is_well() ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* A locale with comma decimals, from LOCPATH: as all locales are that a program asks for. */
static void test_locale(void **state) {
    (void)state;
    char text[10], plain[256];
    uint64_t expected = workout(false);
    model m = model_new(PENTE_FLOAT32, 1, 1, true, 0);
    pente_sgd_options options = options_of(-0.5, 0, 0, 0, 0, 0);
    pente_sgd *sgd = NULL;
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_new(&m.layer, 1, &options, &sgd));
    snprintf(plain, sizeof plain, "%s", pente_last_error());
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) fail_msg("there is no de_DE.UTF-8 in %s", getenv("LOCPATH"));
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5");
    assert_true(workout(false) == expected);
    REFUSED(PENTE_INVALID_ARGUMENT, pente_sgd_new(&m.layer, 1, &options, &sgd));
    assert_string_equal(pente_last_error(), plain);
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5"); /* as the host has it */
    setlocale(LC_ALL, "C");
    model_free(&m);
}

static uint64_t expected_bits;

/* A file then has the descriptor of standard output or error: nothing may be written there but itself. */
static bool works_without_standard_files(void) {
    for (int file = 0; file < 3; file++) close(file);
    return workout(false) == expected_bits && pente_layer_save(NULL, NULL, "") == PENTE_INVALID_HANDLE &&
           fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0;
}

static void test_closed_standard_files(void **state) {
    (void)state;
    expected_bits = workout(false);
    check_in_child(works_without_standard_files);
}

static bool works_without_environment(void) {
    clearenv();
    if (chdir("/") != 0) return false;
    umask(0777);
    return workout(true) == expected_bits;
}

static void test_no_environment(void **state) {
    (void)state;
    expected_bits = workout(true);
    check_in_child(works_without_environment);
}

static void test_no_descriptors(void **state) {
    (void)state;
    struct rlimit limit, none;
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1), *loaded = NULL;
    snapshot before = snapshot_new(layer);
    OK(pente_layer_save(layer, NULL, path_of("file")));
    uint64_t expected = workout(true);
    int files = count_files();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    OK(pente_threads_set(3));
    uint64_t bits = workout(true);
    pente_status saved = pente_layer_save(layer, NULL, path_of("file"));
    int save_error = errno;
    pente_status is_loaded = pente_layer_load(path_of("file"), &loaded);
    int load_error = errno;
    pente_status parameters = pente_layer_load_parameters(layer, NULL, path_of("file"));
    OK(pente_threads_set(1));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(bits == expected);
    assert_int_equal(saved, PENTE_FILE_ERROR);
    assert_int_equal(is_loaded, PENTE_FILE_ERROR);
    assert_int_equal(parameters, PENTE_FILE_ERROR);
    assert_int_equal(save_error, EMFILE);
    assert_int_equal(load_error, EMFILE);
    assert_true(is_as_in(layer, &before));
    assert_int_equal(count_files(), files);
    OK(pente_layer_load(path_of("file"), &loaded));
    snapshot_free(&before);
    OK(pente_layer_free(layer));
    OK(pente_layer_free(loaded));
}

/* A path is that of the directory and the umask of its call. */
static void test_directory_and_umask(void **state) {
    (void)state;
    char home[1000];
    struct stat file;
    pente_layer *layer = linear_new(PENTE_FLOAT32, 3, 2, 1), *loaded = NULL;
    assert_non_null(getcwd(home, sizeof home));
    assert_int_equal(mkdir(path_of("one"), 0700) | mkdir(path_of("other"), 0700), 0);
    assert_int_equal(chdir(path_of("one")), 0);
    mode_t mask = umask(077);
    OK(pente_layer_save(layer, NULL, "here"));
    umask(mask);
    assert_int_equal(stat("here", &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    assert_int_equal(chdir(path_of("other")), 0);
    REFUSED(PENTE_FILE_ERROR, pente_layer_load("here", &loaded));
    OK(pente_layer_load("../one/here", &loaded));
    assert_int_equal(rmdir(path_of("other")), 0); /* a directory that is no more */
    REFUSED(PENTE_FILE_ERROR, pente_layer_save(layer, NULL, "here"));
    assert_int_equal(chdir(home), 0);
    OK(pente_layer_free(layer));
    OK(pente_layer_free(loaded));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_locale),
        cmocka_unit_test(test_closed_standard_files),
        cmocka_unit_test(test_no_environment),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_directory_and_umask),
    };
    return cmocka_run_group_tests_name("host_surroundings", tests, directory_new, directory_free);
}
