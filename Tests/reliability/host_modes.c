/* A host that rounds otherwise, flushes subnormal numbers to zero or traps: the bits are the same, and its settings are
 * as they were after every call. */
#define _GNU_SOURCE /* feenableexcept */
#include "files.h"
#include "refusals.h"
#include "workout.h"

#include <fenv.h>
#include <stdio.h>
#include <string.h>

/* What the host may set: the rounding of all arithmetic, and bits of the processor's own. */
typedef struct modes {
    const char *name;
    int rounding, traps;
    unsigned bits;      /* of MXCSR, or of FPCR */
    unsigned short x87; /* bits of its control word that are otherwise */
} modes;

enum { ALL_TRAPS = FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW | FE_UNDERFLOW };

#if defined(__x86_64__)
enum { FLUSH = 0x8000, SUBNORMAL_IS_ZERO = 0x40, SINGLE = 0x300, WIDE = 0x100, X87_UPWARD = 0x800 };

static unsigned long read_modes(void) {
    unsigned short x87;
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    return (__builtin_ia32_stmxcsr() & 0xffc0) | (unsigned long)x87 << 16;
}

static void set_bits(const modes *m) {
    unsigned short x87;
    __builtin_ia32_ldmxcsr((__builtin_ia32_stmxcsr() & ~0x3fu) | m->bits);
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    x87 ^= m->x87;
    __asm__ volatile("fldcw %0" ::"m"(x87));
}
#else
enum { FLUSH = 1 << 24, SUBNORMAL_IS_ZERO = 1 << 24, SINGLE = 0, WIDE = 0, X87_UPWARD = 0 };

static unsigned long read_modes(void) {
    unsigned long modes;
    __asm__ volatile("mrs %0, fpcr" : "=r"(modes));
    return modes;
}

static void set_bits(const modes *m) {
    __asm__ volatile("msr fpcr, %0" ::"r"(read_modes() | m->bits));
}
#endif

static const modes all_modes[] = {
    {"upward", FE_UPWARD, 0, 0, 0},
    {"downward", FE_DOWNWARD, 0, 0, 0},
    {"toward zero", FE_TOWARDZERO, 0, 0, 0},
    {"flush to zero", FE_TONEAREST, 0, FLUSH, 0},
    {"subnormal is zero", FE_TONEAREST, 0, SUBNORMAL_IS_ZERO, 0},
    {"as -ffast-math", FE_TONEAREST, 0, FLUSH | SUBNORMAL_IS_ZERO, 0},
    {"upward, flush", FE_UPWARD, 0, FLUSH | SUBNORMAL_IS_ZERO, 0},
    {"traps", FE_TONEAREST, ALL_TRAPS, 0, 0},
    {"traps, downward, flush", FE_DOWNWARD, ALL_TRAPS, FLUSH | SUBNORMAL_IS_ZERO, 0},
    {"the x87 in single precision", FE_TONEAREST, 0, 0, SINGLE},
    {"the x87 in double precision", FE_TONEAREST, 0, 0, WIDE},
    {"the x87 upward", FE_TONEAREST, 0, 0, X87_UPWARD}, /* by which libc writes numbers to files */
};

static void begin(const modes *m) {
    feclearexcept(FE_ALL_EXCEPT);
    fesetround(m->rounding);
    set_bits(m);
    feenableexcept(m->traps);
}

/* Back to the settings of a process that begins; returns whether m's were still there. */
static bool end(const modes *m, unsigned long set) {
    unsigned long found = read_modes();
    fesetenv(FE_DFL_ENV);
    if (found != set) print_error("%s: the settings are %lx after the call, and were %lx\n", m->name, found, set);
    return found == set;
}

static void check_workout(const modes *m, uint64_t expected, bool large) {
    begin(m);
    unsigned long set = read_modes();
    uint64_t bits = workout(large);
    assert_true(end(m, set));
    if (bits != expected) fail_msg("%s, %d threads: other bits", m->name, (int)pente_threads_get());
}

static void test_same_bits(void **state) {
    (void)state;
    uint64_t expected = workout(false);
    for (size_t i = 0; i < COUNT(all_modes); i++) check_workout(&all_modes[i], expected, false);
}

/* Workers that are started from a host with such modes, and workers that were there before. */
static void test_same_bits_on_threads(void **state) {
    (void)state;
    uint64_t expected = workout(true);
    for (size_t i = 0; i < COUNT(all_modes); i++) {
        OK(pente_threads_set(4));
        check_workout(&all_modes[i], expected, true);
        assert_true(workout(true) == expected);
        check_workout(&all_modes[(i + 1) % COUNT(all_modes)], expected, true);
        OK(pente_threads_set(1));
    }
}

/* Every function, right and refused. */
static void test_every_function_restores(void **state) {
    (void)state;
    int wrong = 0;
    static outcome seen, expected;
    for (size_t i = 0; i < COUNT(all_modes); i++) {
        for (size_t k = 0; k < function_count; k++) {
            world *w = world_new(), *twin = world_new();
            const function *f = &functions[k];
            value a[8] = {{0}}, of_twin[8] = {{0}}, nothing[8] = {{0}};
            right_values(w, f, a);
            right_values(twin, f, of_twin);
            begin(&all_modes[i]);
            unsigned long set = read_modes();
            pente_status refused = f->call(nothing), status = f->call(a);
            wrong += !end(&all_modes[i], set);
            (void)refused;
            REFUSED(f->call(of_twin), status);
            if (w->now.made != w->pristine.made) free_made(w->now.made);
            if (twin->now.made != twin->pristine.made) free_made(twin->now.made);
            probe(w, &seen);
            probe(twin, &expected);
            if (memcmp(&seen, &expected, sizeof seen) != 0) {
                print_error("%s, %s: other bits\n", f->name, all_modes[i].name);
                wrong++;
            }
            world_free(w);
            world_free(twin);
        }
    }
    assert_int_equal(wrong, 0);
}

/* What is not finite is a status, also where the host traps; its flags are its own. */
static void test_no_trap_of_what_is_not_finite(void **state) {
    (void)state;
    static const double numbers[] = {1e308, -1e308, 1.0 / 0.0, 0.0 / 0.0, 5e-324};
    training t = training_new(PENTE_FLOAT64, 3, 2, PENTE_SUM, 0.1);
    pente_matrix x = matrix_new(PENTE_FLOAT64, 4, 3, 3), y = matrix_random(PENTE_FLOAT64, 4, 2, 2);
    pente_layer *bend = activation_new(PENTE_FLOAT64, PENTE_SOFTPLUS);
    pente_matrix out = matrix_new(PENTE_FLOAT64, 4, 3, 3);
    for (size_t i = 0; i < COUNT(numbers); i++) {
        fill(&x, numbers[i]);
        begin(&(modes){"traps", FE_TONEAREST, ALL_TRAPS | FE_INEXACT, 0, 0});
        pente_status step = pente_trainer_step(t.trainer, &x, &y, NULL, NULL);
        pente_status forward = pente_layer_forward(bend, NULL, &x, &out);
        int flags = fetestexcept(FE_ALL_EXCEPT), traps = fegetexcept();
        fesetenv(FE_DFL_ENV);
        assert_int_equal(step, i == 4 ? PENTE_OK : PENTE_NOT_FINITE);
        assert_int_equal(forward, PENTE_OK);
        assert_int_equal(flags, 0);
        assert_int_equal(traps, ALL_TRAPS | FE_INEXACT);
    }
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&out);
    OK(pente_layer_free(bend));
    training_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_same_bits_on_threads),
        cmocka_unit_test(test_every_function_restores),
        cmocka_unit_test(test_no_trap_of_what_is_not_finite),
    };
    return cmocka_run_group_tests_name("host_modes", tests, directory_new, directory_free);
}
