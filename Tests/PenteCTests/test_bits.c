/* The same bits on any processor, with any number of threads, by a trainer or by hand, and from C, Python and Swift: each
 * run of Tests/data/bits.txt gives the hashes that stand there. PENTE_BITS=few takes the small runs alone, as emulators
 * want it; PENTE_BITS=all each number of threads from 1 to 8. With "rewrite" it prints the table as it is now. */
#include "runs.h"

#include <valgrind/valgrind.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "Tests/data/bits.txt"
#define FORMAT "%s %8s %8s %8s\n"

static FILE *open_file(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("%s is not there: the tests run in the project's own folder", path);
    return file;
}

/* How many times numbers have changed on purpose. */
static int count_in_changelog(void) {
    FILE *file = open_file("CHANGELOG.md");
    char line[1000];
    int count = 0;
    while (fgets(line, sizeof line, file)) count += !strncmp(line, "- bits:", 7);
    fclose(file);
    return count;
}

/* ---- Each run in each way ---- */

static int wrong;

static void check_run(const run *r, int number, int threads, bool by_hand) {
    static const char *const parts[] = {"pass", "steps", "fit"};
    char hashes[PARTS][9];
    OK(pente_threads_set(threads));
    hash_run(r, by_hand, hashes);
    for (int part = 0; part < PARTS; part++) {
        if (!strcmp(hashes[part], r->hashes[part])) continue;
        wrong++;
        print_error("%s:%d: %s\n    from C, %s, threads: %d: %s is %s, expected %s\n", TABLE, number, r->description,
                    by_hand ? "by hand" : "by trainer", threads, parts[part], hashes[part], r->hashes[part]);
    }
}

static void test_bits(void **state) {
    (void)state;
    const char *mode = getenv("PENTE_BITS");
    bool all = mode && !strcmp(mode, "all"), few = (mode && !strcmp(mode, "few")) || RUNNING_ON_VALGRIND;
    FILE *file = open_file(TABLE);
    char line[300];
    int runs = 0;
    run r;
    for (int number = 1; fgets(line, sizeof line, file); number++) {
        if (!read_run(line, &r) || (few && size_of_run(&r) > 30000)) continue;
        runs++;
        for (int threads = 1; threads <= (all ? 8 : few ? 1 : 3); threads += all ? 1 : 2) {
            check_run(&r, number, threads, false);
            check_run(&r, number, threads, true);
        }
    }
    fclose(file);
    OK(pente_threads_set(1));
    print_message("bits: %d runs\n", runs);
    assert_true(runs >= 20);
    if (wrong) {
        fail_msg("If numbers are meant to change, add a line \"- bits:\" to CHANGELOG.md that says which and why, and let "
                 "`make bits` write the table");
    }
}

static void test_the_changelog_knows(void **state) {
    (void)state;
    FILE *file = open_file(TABLE);
    char line[300];
    int changes = -1;
    while (changes < 0 && fgets(line, sizeof line, file)) (void)sscanf(line, "changes %d", &changes);
    fclose(file);
    if (changes != count_in_changelog()) {
        fail_msg("%s is of change %d, but CHANGELOG.md has %d lines \"- bits:\": `make bits` writes the table anew", TABLE,
                 changes, count_in_changelog());
    }
}

/* ---- Writing the table ---- */

/* Prints it with the hashes of one thread's trainers. */
static int rewrite(void) {
    FILE *file = open_file(TABLE);
    char line[300], hashes[PARTS][9];
    int before = 0, now = count_in_changelog(), changed = 0;
    run r;
    while (fgets(line, sizeof line, file)) {
        if (read_run(line, &r)) {
            hash_run(&r, false, hashes);
            for (int k = 0; k < PARTS; k++) changed += r.hashes[k][0] && strcmp(hashes[k], r.hashes[k]);
            printf(FORMAT, r.description, hashes[PASS], hashes[STEPS], hashes[FIT]);
        } else if (sscanf(line, "changes %d", &before) == 1) {
            printf("changes %d\n", now);
        } else {
            fputs(line, stdout);
        }
    }
    fclose(file);
    if (changed == 0 || now > before) return 0;
    fprintf(stderr, "%d hashes are others: first add a line \"- bits:\" to CHANGELOG.md that says which and why\n",
            changed);
    return 1;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "rewrite")) return rewrite();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits), cmocka_unit_test(test_the_changelog_knows)};
    return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
