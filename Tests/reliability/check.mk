# Attacks on the library, included by the Makefile. Each has a long form, make check-NAME, whose figures stand in
# docs/reliability.md, and a short one, make test-NAME, which make test runs.

# Each section adds the names of its attacks.
ATTACKS :=

# Not on a disk, whose time it would be, where there is memory to write files to; and a locale with comma decimals.
HOSTED  := LOCPATH=build/locale $(if $(wildcard /dev/shm),TMPDIR=/dev/shm)

# The compiler and the tools whose runtimes and formats fit swiftc's stand beside it.
SWIFT_BIN = $(dir $(realpath $(shell command -v $(SWIFT)c)))
CLANG     = $(SWIFT_BIN)clang

# A flavour's archive, by a make of that flavour, in which the Makefile has the rule.
ifeq ($(FLAVOUR),)
$(patsubst %,build/%/lib/libpente.a,asan tsan coverage): build/%/lib/libpente.a: $(SOURCES) Makefile | build/setup.stamp
	+$(MAKE) --no-print-directory FLAVOUR=$* $@
endif

# ---- Fuzzing the API ------------------------------------------------------------------------------------------------

# Sequences of calls of every function (see Tests/reliability/api_fuzzer/fuzzer.h). The corpus is replayed by every
# make test; the long form goes on from it, under AddressSanitizer, until so many calls are made:
FUZZ_API_CALLS ?= 10000000
ATTACKS  += fuzz-api
FUZZ_API := Tests/reliability/api_fuzzer
FUZZ_API_SOURCES := $(filter-out %/replay.c,$(wildcard $(FUZZ_API)/*.c))
# In memory, if there is such a place: each save waits for the disk.
FUZZ_API_IN := TMPDIR=$(firstword $(wildcard /dev/shm) /tmp)
# What malloc keeps for a thread would count as leaked.
FUZZ_API_IN += GLIBC_TUNABLES=glibc.malloc.tcache_count=0

# A function of the API that the fuzzer does not call is missing at the link.
build/fuzz-api/exports.inc: Tests/PenteCTests/exports.txt
	@mkdir -p $(@D)
	sed 's/.*/EXPORT(&)/' $< > $@

build/fuzz-api/replay: $(FUZZ_API_SOURCES) $(FUZZ_API)/replay.c $(wildcard $(FUZZ_API)/*.h) build/fuzz-api/exports.inc $(LIBRARY)
	$(CC) -std=gnu11 -Iinclude -Ibuild/fuzz-api $(CFLAGS) $(WARNINGS) $(filter %.c,$^) -o $@ $(LINK) -lm

build/fuzz-api/fuzzer: $(FUZZ_API_SOURCES) $(wildcard $(FUZZ_API)/*.h) build/fuzz-api/exports.inc build/asan/lib/libpente.a
	$(CLANG) -std=gnu11 -g -O1 $(WARNINGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	    -Iinclude -Ibuild/fuzz-api $(filter %.c %.a,$^) -o $@ -lm -fuse-ld=lld

test-fuzz-api: build/fuzz-api/replay
	$(FUZZ_API_IN) build/fuzz-api/replay $(FUZZ_API)/corpus 400000

# One fuzzer a processor, each with its share of the calls; they tell each other what they find.
check-fuzz-api: build/fuzz-api/fuzzer test-fuzz-api
	rm -rf build/fuzz-api/corpus && mkdir -p build/fuzz-api/corpus build/fuzz-api/found
	build/fuzz-api/replay --unpack $(FUZZ_API)/corpus build/fuzz-api/corpus
	jobs=$$(nproc); seq $$jobs | $(FUZZ_API_IN) PENTE_FUZZ_CALLS=$$(($(FUZZ_API_CALLS) / jobs + 1)) xargs -P $$jobs -I JOB \
	    build/fuzz-api/fuzzer -seed=JOB -reload=1 -max_len=3000 -len_control=0 -timeout=60 -malloc_limit_mb=100000 \
	    -artifact_prefix=build/fuzz-api/found/ -print_final_stats=1 build/fuzz-api/corpus

# ---- Files larger than memory ---------------------------------------------------------------------------------------

ATTACKS += big
build/tests/big: Tests/reliability/big.c $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(EXAMPLE) $< -o $@ $(LINK)

test-big: build/tests/big
	build/tests/big build 300 64

# On a disk with room for them.
check-big: build/tests/big
	build/tests/big build 8000 256

# ---- Fuzzing the file readers ---------------------------------------------------------------------------------------

# With libFuzzer and AddressSanitizer where new paths are looked for; without, many more changes of a committed corpus.
ATTACKS += fuzz-files
FUZZ_safetensors := $(addprefix Tests/reliability/,fuzz_safetensors.c safetensors_mutator.c fuzz.c)
FUZZ_table       := $(addprefix Tests/reliability/,fuzz_table.c fuzz.c) bindings/c/table.c
FUZZ_FLAGS       := -std=c11 -g -Wall -Wextra -Iinclude -Ibindings/c -ffp-contract=off
FUZZ_NEEDS       := $(wildcard Tests/reliability/*.[ch]) bindings/c/table.c bindings/c/table.h
FUZZ_LIMITS      := -max_len=8192 -timeout=10 -rss_limit_mb=1024 -artifact_prefix=build/fuzz/

build/fuzz/%-replay: $(FUZZ_NEEDS) $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(FUZZ_FLAGS) -O2 -Werror $(FUZZ_$*) Tests/reliability/replay.c -o $@ $(LINK) -lm

build/fuzz/%-asan: $(FUZZ_NEEDS) build/asan/lib/libpente.a
	@mkdir -p $(@D)
	$(CLANG) $(FUZZ_FLAGS) -O1 -fsanitize=fuzzer,address,undefined -fuse-ld=lld $(FUZZ_$*) \
	    build/asan/lib/libpente.a -o $@ -lm -lpthread

test-fuzz-files: build/fuzz/safetensors-replay build/fuzz/table-replay build/venv/pente.stamp
	build/fuzz/safetensors-replay 15000 Tests/reliability/corpus/safetensors
	build/fuzz/table-replay 30000 Tests/reliability/corpus/table
	$(PYTHON) Tests/reliability/fuzz_tables.py 6000

check-fuzz-files: $(foreach kind,safetensors table,build/fuzz/$(kind)-replay build/fuzz/$(kind)-asan) build/venv/pente.stamp
	@mkdir -p build/fuzz/found-safetensors build/fuzz/found-table
	build/fuzz/safetensors-asan $(FUZZ_LIMITS) -malloc_limit_mb=64 -runs=300000 build/fuzz/found-safetensors \
	    Tests/reliability/corpus/safetensors
	build/fuzz/table-asan $(FUZZ_LIMITS) -malloc_limit_mb=1 -runs=100000 build/fuzz/found-table \
	    Tests/reliability/corpus/table
	build/fuzz/safetensors-replay 500000 Tests/reliability/corpus/safetensors
	build/fuzz/table-replay 500000 Tests/reliability/corpus/table
	$(PYTHON) Tests/reliability/fuzz_tables.py 45000

# ---- Failing memory -------------------------------------------------------------------------------------------------

ATTACKS += memory
MEMORY_PY = PYTHONMALLOC=malloc LD_PRELOAD=$(CURDIR)/build/tests/libfailing.so $(PYTHON) -P Tests/reliability/memory.py

build/tests/memory: Tests/reliability/memory.c $(C_NEEDS) $(LIBRARY) | build/setup-test.stamp
	@mkdir -p $(@D)
	$(CC) -std=c11 $(EXAMPLE) -ITests/PenteCTests $< $(C_COMMON) $(C_CASES) $(C_MEMORY) -o $@ $(LINK) -lcmocka \
	    -lpthread -lm -ldl

build/tests/libfailing.so: Tests/reliability/failing.c | build/setup-test.stamp
	@mkdir -p $(@D)
	$(CC) -std=c11 $(EXAMPLE) -fPIC -shared $< -o $@ -ldl

test-memory: build/tests/memory build/tests/libfailing.so build/venv/pente.stamp
	$(HOSTED) build/tests/memory
	$(HOSTED) $(MEMORY_PY) 3

# The first two hundred allocations one by one, and then some; and a hundred thousand random calls.
check-memory: test-memory $(addprefix build/tests/test_,allocation allocation_layers allocation_many)
	PENTE_DENSE=200 $(HOSTED) build/tests/memory Tests/PenteCTests/exports.txt 100000
	for test in allocation allocation_layers allocation_many; do PENTE_DENSE=200 $(HOSTED) build/tests/test_$$test || exit 1; done
	$(HOSTED) $(MEMORY_PY) 100

# ---- Failing disks --------------------------------------------------------------------------------------------------

ATTACKS += disks
test-disks: build/tests/test_disks
	build/tests/test_disks

build/tests/save: Tests/reliability/save.c $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) -std=c11 -Iinclude $(CFLAGS) $(WARNINGS) $< -o $@ $(LINK)

check-disks: build/tests/test_disks build/tests/save build/venv/pente.stamp
	build/tests/test_disks 2500
	Tests/reliability/check_disks.sh build/tests/save $(PYTHON)

# ---- Threads --------------------------------------------------------------------------------------------------------

ATTACKS += threads

CROWD       := $(addprefix Tests/reliability/,calls.c crowd.c own.c lives.c) \
               $(addprefix Tests/PenteCTests/,support.c files.c)
CROWD_NEEDS := $(CROWD) $(wildcard $(addsuffix /*.h,Tests/reliability Tests/PenteCTests))
CROWDED     := -std=c11 -Iinclude -ITests/PenteCTests $(WARNINGS)

$(addprefix build/reliability/,storm forks handles): build/reliability/%: Tests/reliability/%.c $(CROWD_NEEDS) \
    $(LIBRARY) | build/setup-test.stamp
	@mkdir -p $(@D)
	$(CC) $(CROWDED) $(CFLAGS) $< $(CROWD) -o $@ $(LINK) -lcmocka -lpthread -lm

# ThreadSanitizer's runtime for Swift and C comes with Swift's clang, which wants Swift's libdispatch beside it.
SWIFT_LIB   = $(SWIFT_BIN)../lib/swift/linux
TSAN_C      = $(CLANG) -g -O1 -fsanitize=thread -fuse-ld=lld $(CROWDED)
TSAN_LINK   = build/tsan/lib/libpente.a -L$(SWIFT_LIB) -Wl,-rpath,$(SWIFT_LIB) -ldispatch -lBlocksRuntime -lcmocka \
              -lpthread -lm
TSAN_TESTS := $(addprefix build/tsan/test_,threads threads_chain threads_count custom_calls callbacks)
# It knows some layouts of addresses alone, and else nothing of children of fork().
TSAN_RUN   := TSAN_OPTIONS=die_after_fork=0 setarch -R

$(TSAN_TESTS): build/tsan/test_%: Tests/PenteCTests/test_%.c $(wildcard Tests/PenteCTests/*.[ch]) build/tsan/lib/libpente.a
	$(TSAN_C) $< $(C_COMMON) -o $@ $(TSAN_LINK)

build/tsan/storm: Tests/reliability/storm.c $(CROWD_NEEDS) build/tsan/lib/libpente.a
	$(TSAN_C) $< $(CROWD) -o $@ $(TSAN_LINK)

check-threads: build/tsan/storm $(TSAN_TESTS) $(addprefix build/reliability/,storm handles)
	for test in $(TSAN_TESTS); do $(TSAN_RUN) $$test || exit 1; done
	for seed in 1 2 3; do $(TSAN_RUN) build/tsan/storm 64 100000 $$seed || exit 1; done
	for seed in 1 2 3; do build/reliability/storm 64 1000000 $$seed || exit 1; done
	build/reliability/handles all

# And whether the crowd calls all there is.
test-threads: $(addprefix build/reliability/,storm handles)
	! grep -ohw 'pente_[a-z_]*' $(CROWD) Tests/reliability/calls.h | grep -vxFf - Tests/PenteCTests/exports.txt
	build/reliability/storm 64 100000
	build/reliability/handles

# ---- Fork -----------------------------------------------------------------------------------------------------------

ATTACKS += fork

check-fork: build/reliability/forks build/venv/pente.stamp
	for seed in 1 2 3; do build/reliability/forks 1000 $$seed || exit 1; done
	PENTE_FORKS=200 $(PYTHON) -m pytest bindings/python/tests/test_processes.py

test-fork: build/reliability/forks
	build/reliability/forks 100

# ---- A hostile host -------------------------------------------------------------------------------------------------

ATTACKS += host
HOST    := $(addprefix build/tests/host_,modes signals stack surroundings copies)

build/tests/host_%: Tests/reliability/host_%.c $(wildcard Tests/reliability/workout.*) $(C_NEEDS) $(LIBRARY) \
    | build/setup-test.stamp
	@mkdir -p $(@D)
	$(CC) -std=c11 $(EXAMPLE) -ITests/PenteCTests $< Tests/reliability/workout.c $(C_COMMON) \
	    $(C_CASES) -o $@ $(LINK) -lcmocka -lpthread -lm -ldl

# The archive in a program that loads the .so, too, and shows it its own functions.
build/tests/host_static: Tests/reliability/host_copies.c $(C_NEEDS) $(ARCHIVE) $(LIBRARY) | build/setup-test.stamp
	@mkdir -p $(@D)
	$(CC) -std=c11 $(EXAMPLE) -ITests/PenteCTests $< $(C_COMMON) $(ARCHIVE) -rdynamic -o $@ \
	    -lcmocka -lpthread -lm -ldl

build/locale/de_DE.UTF-8: | build/setup-test.stamp
	@mkdir -p $(@D)
	localedef -i de_DE -f UTF-8 $@

test-host: $(HOST) build/tests/host_static build/locale/de_DE.UTF-8 build/venv/pente.stamp
	for test in $(HOST) build/tests/host_static; do $(HOSTED) $$test || exit 1; done
	$(HOSTED) $(PYTHON) -P Tests/reliability/host.py

# Signals for minutes, and the library opened and closed ten thousand times; and how deep each call's stack is.
check-host: test-host
	$(HOSTED) build/tests/host_signals 100
	for test in copies static; do $(HOSTED) build/tests/host_$$test build/lib/libpente.so.0 10000 || exit 1; done
	$(HOSTED) build/tests/host_stack figures

# ---- Soak -----------------------------------------------------------------------------------------------------------

ATTACKS += soak
SOAK := Tests/reliability/soak.py

build/tests/soak: $(wildcard Tests/reliability/soak*.[ch]) $(C_NEEDS) $(LIBRARY) | build/setup-test.stamp
	@mkdir -p $(@D)
	$(CC) -std=c11 $(EXAMPLE) $(filter %/soak.c %/soak_objects.c,$^) $(C_COMMON) -o $@ $(LINK) -lcmocka -lm

check-soak: build/tests/soak build/venv/pente.stamp
	build/tests/soak 1000000000 100000
	$(PYTHON) $(SOAK) 1000000 100000

test-soak: build/tests/soak build/venv/pente.stamp
	build/tests/soak 10000000 10000
	$(PYTHON) $(SOAK) 20000 1000

# ---- The same bits --------------------------------------------------------------------------------------------------

# The short form is part of test-c, test-levels, test-python and test-swift. The long one: each run with each number of
# threads, in each language, on each level of processor that there is or that an emulator has, which takes an hour.
.PHONY: bits check-bits
check: check-bits
check-bits: export PENTE_BITS := all
check-bits: build/tests/test_bits build/tests/static_bits build/venv/pente.stamp
	build/tests/test_bits
	build/tests/static_bits
	$(PYTHON) -m pytest bindings/python/tests/test_bits.py
	$(SWIFT) test -c release --filter theBitsOfTheTable 2>&1 | tee build/swift_bits.log
	grep -q "1 test in 1 suite passed" build/swift_bits.log # a filter that matches nothing passes, too
ifeq ($(shell uname -m),x86_64)
	PENTE_EMULATED=1 qemu-x86_64 -cpu Haswell build/tests/test_bits
	qemu-x86_64 -cpu Haswell $(PYTHON) -m pytest bindings/python/tests/test_bits.py
	# Without FMA all of them would take hours.
	PENTE_BITS=few PENTE_EMULATED=1 qemu-x86_64 -cpu Nehalem build/tests/test_bits
	PENTE_BITS=few qemu-x86_64 -cpu Nehalem $(PYTHON) -m pytest bindings/python/tests/test_bits.py
endif

# Writes the table anew, for numbers that are meant to change.
bits: build/tests/test_bits
	build/tests/test_bits rewrite > build/bits.txt
	cp build/bits.txt Tests/data/bits.txt

# ---- Extremes -------------------------------------------------------------------------------------------------------

ATTACKS += extremes
EXTREMES := build/tests/bounds build/tests/specials
$(EXTREMES): build/tests/%: Tests/reliability/%.c $(wildcard Tests/PenteCTests/*.[ch]) $(LIBRARY) | build/setup-test.stamp
	@mkdir -p $(@D)
	$(CC) -std=c11 -Iinclude $(CFLAGS) $(WARNINGS) $< $(C_COMMON) -o $@ $(LINK) -lcmocka -lpthread -lm

test-extremes: $(EXTREMES) build/venv/pente.stamp
	build/tests/bounds
	build/tests/specials
	$(PYTHON) Tests/reliability/exactness.py

check-extremes: $(EXTREMES) build/venv/pente.stamp
	build/tests/bounds long
	build/tests/specials long
	$(PYTHON) Tests/reliability/exactness.py --long

# ---- NIST StRD ------------------------------------------------------------------------------------------------------

ATTACKS += nist
test-nist: build/venv/pente.stamp
	$(PYTHON) Tests/reliability/nist.py

check-nist: build/venv/pente.stamp
	$(PYTHON) Tests/reliability/nist.py --table

# ---- The checked build ----------------------------------------------------------------------------------------------

# The library for users who look for a mistake of their own, in build/debug/lib: see docs/reliability.md.
.PHONY: debug
debug: | build/setup.stamp
	+$(MAKE) --no-print-directory FLAVOUR=debug lib

# Most of the C tests as they are, and the mistakes that it is there for. PENTE_CHECKED tells the tests of it.
ATTACKS += debug
WITH_DEBUG := PENTE_LOG=0 PENTE_CHECKED=1 LD_LIBRARY_PATH=build/debug/lib
MISTAKES   := build/debug/tests/mistakes build/debug/tests/mistakes_asan
TAKE_LONG  := allocation_layers allocation_many threads_count bad_files limits

build/debug/tests/mistakes_asan: private MISTAKEN := -fsanitize=address
$(MISTAKES): Tests/reliability/mistakes.c $(C_COMMON) $(wildcard Tests/PenteCTests/*.h) | debug build/setup-test.stamp
	@mkdir -p $(@D)
	$(CC) -std=c11 -Iinclude $(CFLAGS) $(WARNINGS) $(MISTAKEN) $< Tests/PenteCTests/support.c -o $@ \
	    -Lbuild/debug/lib -lpente -lcmocka -lm

test-debug: debug $(MISTAKES) $(addprefix build/tests/test_,$(C_TESTS))
	for test in $(MISTAKES); do $(WITH_DEBUG) ASAN_OPTIONS=detect_leaks=0 $$test || exit 1; done
	printf '%s\n' $(filter-out $(TAKE_LONG),$(C_TESTS)) | \
	    xargs -P "$$(nproc)" -I TEST env $(WITH_DEBUG) build/tests/test_TEST

check-debug: test-debug
	for test in $(TAKE_LONG); do $(WITH_DEBUG) build/tests/test_$$test || exit 1; done

# ---- Coverage and mutations -----------------------------------------------------------------------------------------

# The lines of Sources that the C tests and the Swift tests run: at least 95 % of each file. No short form: it compiles
# everything anew, twice.
.PHONY: check-coverage
check: check-coverage
PROFILE   = $(wildcard $(SWIFT_BIN)../lib/clang/*/lib/linux/libclang_rt.profile-$(shell uname -m).a)
COVERED := build/coverage/swift/release/codecov/default.profdata=build/coverage/swift/release/pentePackageTests.xctest \
           build/coverage/c.profdata=build/coverage/tests/test_bits

build/coverage/tests/test_%: Tests/PenteCTests/test_%.c $(C_NEEDS) build/coverage/lib/libpente.a \
    | build/setup-test.stamp
	@mkdir -p $(@D)
	$(C_TEST) build/coverage/lib/libpente.a $(PROFILE) \
	    -Wl,-u,__llvm_profile_runtime -lcmocka -lpthread -lm

check-coverage: $(addprefix build/coverage/tests/test_,$(C_TESTS))
	rm -rf build/coverage/profiles
	for test in $(C_TESTS); do \
	    LLVM_PROFILE_FILE=build/coverage/profiles/$$test-%p.profraw build/coverage/tests/test_$$test || exit 1; done
	"$(SWIFT_BIN)llvm-profdata" merge -sparse build/coverage/profiles/*.profraw -o build/coverage/c.profdata
	$(SWIFT) test -c release --enable-code-coverage --scratch-path build/coverage/swift
	python3 Tests/reliability/coverage.py 95 "$(SWIFT_BIN)llvm-cov" $(COVERED)
# The arithmetic, changed on purpose, fails a test. There is no short form: the library with the mutants alone takes two
# minutes to compile. What was answered is not asked again: rm -r build/mutants asks all of it.
.PHONY: check-mutations
check: check-mutations
check-mutations:
	$(MAKE) $(addprefix build/tests/test_,$(C_TESTS))
	python3 Tests/reliability/mutate.py

# ---- All of them -----------------------------------------------------------------------------------------------------

.PHONY: check $(addprefix check-,$(ATTACKS)) $(addprefix test-,$(ATTACKS))
test: $(addprefix test-,$(ATTACKS))
check: $(addprefix check-,$(ATTACKS))
	@echo "all checks passed"
