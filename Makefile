# make        the shared library, in build/lib
# make run    trains on real data from C, Python and Swift, and compares
# make test   all tests: Swift, C, Python
# make debug  the same with what must hold asserted, and more of its users' mistakes seen, in build/debug/lib
# make check  attacks: fuzzers, failing memory and disks, threads, hostile hosts; see docs/reliability.md
# make run-mpi  the same data, shared out among processes; see docs/scale.md
# make wheel  the Python package, in build/dist: a wheel and its source distribution
# make docs   the documentation of the Swift package, in build/docs
# make bench-stream  times epochs from files beside epochs from memory
# make bench  times training steps beside BLAS, NumPy, PyTorch, JAX and scikit-learn
# make dist   all that a release hands on, in build/dist, with checksums
# make install, uninstall, tarball, deb: see packaging/packaging.mk
# What is missing on the machine (see tools/setup.sh) is installed first; what is made goes to build/ and .build*/.

VERSION := $(shell awk '/define PENTE_VERSION_(MAJOR|MINOR|PATCH)/ {printf "%s%s", dot, $$3; dot="."}' include/pente.h)
SONAME  := libpente.so.$(firstword $(subst ., ,$(VERSION)))
# A flavour of the library, as make lib FLAVOUR=asan builds it, has a folder of its own below build/.
FLAVOUR ?=
PLACE    := build$(addprefix /,$(FLAVOUR))
LIBRARY  := $(PLACE)/lib/libpente.so.$(VERSION)
ARCHIVE  := $(PLACE)/lib/libpente.a
EMBEDDED := $(PLACE)/embedded
SOURCES := Package.swift include/pente.h include/module.modulemap $(shell find Sources -type f -not -path '*.docc/*')
SWIFT   ?= swift
PYTHON  := build/venv/bin/python

# The examples of all languages add up in the same order, so no compiler may fuse what they add.
CFLAGS   ?= -O2 -g
WARNINGS := -Wall -Wextra -Wpedantic -Werror
EXAMPLE  := -Iinclude $(CFLAGS) $(WARNINGS) -ffp-contract=off
LINK     := -Lbuild/lib -lpente -Wl,-rpath,'$$ORIGIN/../lib'

.PHONY: all lib wheel sdist docs run bench bench-stream judges clean \
        test test-format test-library test-swift test-swift-package test-c test-levels test-python test-wheel test-docs \
        test-readme
all: lib
lib: $(LIBRARY) $(ARCHIVE)

# ---- The library ----------------------------------------------------------------------------------------------------

# The package's modules as Embedded Swift, for which libc is enough, each in one object: SwiftPM's object for each file is
# more code. Nothing may unwind the stack through the library: see the rule on callbacks in pente.h. Its runtime checks no
# exclusivity: the calls that would ask it to are left out.
COMPILE := $(SWIFT)c -c -g -wmo -parse-as-library -swift-version 6 -package-name pente -I $(EMBEDDED) \
           -enable-experimental-feature Embedded -enforce-exclusivity=unchecked \
           $(addprefix -Xfrontend ,-function-sections -mergeable-traps -disable-stack-protector) \
           $(addprefix -Xcc ,-fPIC -fno-unwind-tables -fno-asynchronous-unwind-tables \
               $(patsubst %,-fmodule-map-file=%/module.modulemap,include Sources/PenteSystem Sources/PenteVectors))
# What looks over the shoulder of the code: AddressSanitizer with the branches counted that a fuzzer wants to reach (not
# in the kernels: they take minutes to compile so), ThreadSanitizer.
INSTRUMENT_asan := -sanitize=address
INSTRUMENT_tsan := -sanitize=thread
# What must hold is asserted, and more is looked at of what users do; lines that ran are counted.
INSTRUMENT_debug := -D PENTE_CHECKED -assert-config Debug
INSTRUMENT_coverage := -profile-generate -profile-coverage-mapping
COVERAGE_asan   := -sanitize=fuzzer
COMPILE += $(INSTRUMENT_$(FLAVOUR))

# What is ours in the place of libc's; a failed assertion speaks by putchar.
WRAPPED := posix_memalign free $(if $(filter debug,$(FLAVOUR)),putchar)
# Nobody refers to the map of the lines.
COLLECT := $(if $(filter coverage,$(FLAVOUR)),,--gc-sections)
# Debuggers are to see into it.
STRIP   := $(if $(filter debug,$(FLAVOUR)),,--strip-unneeded)

# A function is compiled once, and not again for each closure that it is called with; functions that differ in a few
# constants alone, as those for Float and Double may, become one, unless each has a table to jump by; and what is small is
# inlined if that is smaller still.
SMALL   := -Osize $(addprefix -Xllvm ,-sil-disable-pass=closure-specialize -inline-threshold=-20 -min-jump-table-entries=1000 \
               -swiftmergefunc-threshold=5 -enable-global-merge-func)
# Loops of unknown length are as fast as they are.
FAST    := -O -Xllvm -unroll-runtime=false
KERNELS := PenteKernels

# The kernels' one source, compiled again for each level of processor that the library chooses from at run time.
ifeq ($(shell uname -m),x86_64)
KERNELS += PenteKernelsAVX2 PenteKernelsAVX512
endif
OBJECTS := $(patsubst %,$(EMBEDDED)/%.o,Pente $(KERNELS))

$(EMBEDDED)/PenteKernels.o: private FLAGS := $(SMALL)
$(EMBEDDED)/PenteKernelsAVX2.o: private FLAGS := $(FAST) -Xcc -march=haswell
$(EMBEDDED)/PenteKernelsAVX512.o: private FLAGS := $(FAST) -Xcc -march=skylake-avx512 -Xcc -mprefer-vector-width=512
$(EMBEDDED)/PenteKernelsAVX2.o $(EMBEDDED)/PenteKernelsAVX512.o: $(EMBEDDED)/PenteKernels.o

$(EMBEDDED)/PenteKernel%.o: Makefile $(wildcard Sources/PenteKernels*/* Sources/PenteVectors/*) | build/setup.stamp
	@mkdir -p $(@D)
	$(COMPILE) $(FLAGS) -module-name PenteKernel$* -emit-module-path $(EMBEDDED)/PenteKernel$*.swiftmodule \
	    Sources/PenteKernel$*/*.swift -o $@
	@touch $@  # the compiler leaves an object alone that comes out the same

# The Swift library and its C interface are one module: what both specialize is there once.
$(EMBEDDED)/Pente.o: $(patsubst %,$(EMBEDDED)/%.o,$(KERNELS)) $(SOURCES)
	$(COMPILE) $(SMALL) $(COVERAGE_$(FLAVOUR)) -module-name Pente Sources/Pente/*.swift Sources/PenteC/*.swift -o $@
	@touch $@

# Everything but pente_* is local, or it would clash in a Swift host. Of what C compilers put at a library's start and end
# we need the name alone by which pthread_atfork tells libraries apart.
$(LIBRARY): $(OBJECTS) Sources/PenteC/exports.map
	@mkdir -p $(@D)
	$(SWIFT)c -emit-library -use-ld=lld -no-toolchain-stdlib-rpath -enable-experimental-feature Embedded \
	    $(OBJECTS) -o $(EMBEDDED)/libpente.so -Xclang-linker -nostartfiles $(addprefix -Xlinker , \
	    --defsym=__dso_handle=pente_version --build-id=none --no-eh-frame-hdr \
	    --version-script=Sources/PenteC/exports.map -soname=$(SONAME) --gc-sections --icf=all --no-undefined \
	    -znodelete $(addprefix --wrap=,$(WRAPPED)))
	objcopy $(STRIP) --remove-section=.comment $(EMBEDDED)/libpente.so $@
	ln -sf $(@F) $(@D)/$(SONAME)
	ln -sf $(SONAME) $(@D)/libpente.so

# The same for those who link statically: one object, of which nothing but pente_* is global. Functions keep sections of
# their own, for a linker that leaves out what is not called; __dso_handle is that of what this becomes part of.
$(ARCHIVE): $(OBJECTS)
	@mkdir -p $(@D)
	ld -r $(COLLECT) $$(nm --defined-only $(EMBEDDED)/Pente.o | awk '$$2 == "T" && $$3 ~ /^pente_/ { print "-u", $$3 }') \
	    $(addprefix --wrap=,$(WRAPPED)) $(OBJECTS) -o $(EMBEDDED)/libpente.o
	objcopy --wildcard --keep-global-symbol='pente_*' $(STRIP) --remove-section=.comment \
	    --remove-section='.swift*' $(EMBEDDED)/libpente.o
	rm -f $@
	ar rcsD $@ $(EMBEDDED)/libpente.o

# ---- Setting up -----------------------------------------------------------------------------------------------------

build/setup.stamp: tools/setup.sh
	tools/setup.sh
	@mkdir -p $(@D) && touch $@

build/setup-test.stamp: tools/setup.sh
	tools/setup.sh test
	@mkdir -p $(@D) && touch $@

build/venv/stamp: build/setup.stamp tools/requirements.txt
	python3 -m venv build/venv
	$(PYTHON) -m pip install --quiet --upgrade -r tools/requirements.txt
	touch $@

# The Python package. The wheel is built from the sdist, so that the tests see whether it lacks anything; only libpente is
# not compiled again.
PACKAGE := $(wildcard $(addprefix bindings/python/,pente/*.* pente/*/*.py extension/*.[ch] *.py *.toml *.in *.md))
wheel sdist: build/dist.stamp

build/dist.stamp: build/venv/stamp $(LIBRARY) $(SOURCES) Makefile LICENSE $(PACKAGE)
	rm -f build/dist/*.whl build/dist/SHA256SUMS
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) PENTE_LIBRARY_DIR=$(CURDIR)/build/lib $(PYTHON) -m build --quiet --no-isolation --outdir build/dist bindings/python
	touch $@

# Into the venv of the tests or that of the benchmark.
build/%/pente.stamp: build/%/stamp build/dist.stamp
	build/$*/bin/python -m pip install --quiet --no-deps --force-reinstall build/dist/*.whl
	touch $@

# PyTorch's CPU build, for the tests that compare with it live; they are skipped without. Where pip does not find it, name
# another: make judges TORCH=torch
TORCH := torch==2.13.0+cpu
judges: build/venv/stamp
	$(PYTHON) -m pip install --quiet '$(TORCH)'

# ---- The main job ---------------------------------------------------------------------------------------------------

build/bin/%-c: bindings/c/%.c bindings/c/table.c bindings/c/table.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(EXAMPLE) $< bindings/c/table.c -o $@ $(LINK) -lm

build/bin/%-cpp: bindings/c/%.c bindings/c/table.c bindings/c/table.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(EXAMPLE) -x c++ $< bindings/c/table.c -o $@ $(LINK) -lm

build/bin/%-swift: $(SOURCES) $(wildcard bindings/swift/*/*.swift) | build/setup.stamp
	@mkdir -p $(@D)
	$(SWIFT) build -c release --product $*-swift
	cp .build/release/$*-swift $@

run: $(foreach program,train digits,build/bin/$(program)-c build/bin/$(program)-swift) build/bin/predict-c \
    build/venv/pente.stamp
	$(PYTHON) tools/run_examples.py
	@echo && echo "The diabetes data by the command; then its model in C, and the same predictions"
	$(PYTHON) -m pente train data/diabetes.csv --target progression --out build/run/diabetes.safetensors
	$(PYTHON) -m pente predict data/diabetes.csv --model build/run/diabetes.safetensors --out build/run/diabetes.csv
	build/bin/predict-c data/diabetes.csv build/run/diabetes.safetensors > build/run/diabetes-c.csv
	tail -n +2 build/run/diabetes.csv | cmp - build/run/diabetes-c.csv

# ---- The documentation of the Swift package -------------------------------------------------------------------------

# A site for any web server: python3 -m http.server -d build/docs shows it at localhost:8000/documentation/pente.
docs: | build/setup.stamp
	SWIFT='$(SWIFT)' tools/build_docs.sh

# ---- The benchmark --------------------------------------------------------------------------------------------------

# What it compares with has a venv and a Swift package of its own (see benchmarks/README.md). make bench BENCH=--quick
# is a short one.
BENCH   ?= --json build/bench/results.json --svg build/bench/charts
WORKERS := $(addprefix build/bench/,pente blas limits footprint swift)

build/bench-venv/stamp: build/setup.stamp tools/setup_bench.sh benchmarks/requirements.txt
	tools/setup_bench.sh build/bench-venv '$(TORCH)'
	touch $@

# They read numbers as a program does that is built for this very processor.
build/bench/blas build/bench/limits: private CFLAGS := -O3 -march=native -fopenmp
build/bench/blas: private CFLAGS += -ffast-math

build/bench/pente build/bench/blas build/bench/limits: build/bench/%: benchmarks/workers/c/%.c \
    $(wildcard benchmarks/workers/c/*.h) benchmarks/workers/c/worker.c $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -Iinclude $(CFLAGS) $(WARNINGS) $< benchmarks/workers/c/worker.c -o $@ $(LINKED) -lm -ldl
build/bench/pente: private LINKED := $(LINK)

build/bench/footprint: benchmarks/workers/c/footprint.c $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -Iinclude $(CFLAGS) $(WARNINGS) $< -o $@ $(LINK)

build/bench/swift: $(SOURCES) $(wildcard benchmarks/swift/*.swift benchmarks/swift/Sources/*/*.swift) \
    | build/setup.stamp
	@mkdir -p $(@D)
	$(SWIFT) build -c release --package-path benchmarks/swift --scratch-path .build-bench
	cp -f .build-bench/release/worker $@

# Epochs from files beside epochs from memory, and beside dd.
build/bench/stream: benchmarks/stream.c $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) -std=c11 -Iinclude $(CFLAGS) $(WARNINGS) $< -o $@ $(LINK)

bench-stream: build/bench/stream
	build/bench/stream build/bench 1000 9

bench: $(WORKERS) build/bench-venv/pente.stamp
	build/bench-venv/bin/python benchmarks/run.py $(BENCH)

-include packaging/packaging.mk  # which an sdist of the Python package does without

# ---- Tests ----------------------------------------------------------------------------------------------------------

test: test-format test-library test-swift test-swift-package test-c test-levels test-python test-wheel test-docs \
    test-readme test-install test-tarball test-deb test-dist docs
	@echo "all tests passed"

test-swift: | build/setup.stamp
	$(SWIFT) test -c release

# As others use the package: by its version, and beside libpente.so.
test-swift-package: $(LIBRARY)
	SWIFT='$(SWIFT)' Tests/Consumer/check.sh

test-library: $(LIBRARY) $(ARCHIVE)
	Tests/PenteCTests/check_library.sh
	Tests/PenteCTests/check_archive.sh
	Tests/PenteCTests/check_header.sh
	tools/check_levels.sh $(EMBEDDED)/libpente.so

VALGRIND := valgrind --quiet --fair-sched=try --leak-check=full --errors-for-leak-kinds=definite,possible \
            --error-exitcode=9
C_TESTS  := arguments overlap linear activation scaler chain chain_structure chain_sharing custom custom_failures \
            custom_calls mse sgd sgd_state clipping trainer fit callbacks gradcheck files resume bad_files file_errors \
            limits allocation allocation_layers allocation_many allocation_threads threads threads_chain threads_count fork bits
C_COMMON := $(addprefix Tests/PenteCTests/,support.c oracle.c layers.c files.c)
C_CASES  := $(addprefix Tests/PenteCTests/,functions.c world.c refusals.c edits.c special_cases.c)
C_RUNS   := Tests/PenteCTests/runs.c
C_MEMORY := Tests/PenteCTests/allocator.c

C_NEEDS  := $(C_COMMON) $(C_CASES) $(C_RUNS) $(C_MEMORY) $(wildcard Tests/PenteCTests/*.h)
C_TEST    = $(CC) -std=c11 $(EXAMPLE) $< $(C_COMMON) $(if $(filter arguments,$*),$(C_CASES)) \
            $(if $(filter bits,$*),$(C_RUNS)) $(if $(filter allocation%,$*),$(C_MEMORY)) -o $@

build/tests/test_%: Tests/PenteCTests/test_%.c $(C_NEEDS) $(LIBRARY) | build/setup-test.stamp
	@mkdir -p $(@D)
	$(C_TEST) $(LINK) -lcmocka -lpthread -lm

# What the static library might do otherwise.
STATIC_TESTS := bits allocation allocation_threads fork
build/tests/static_%: Tests/PenteCTests/test_%.c $(C_NEEDS) $(ARCHIVE) | build/setup-test.stamp
	@mkdir -p $(@D)
	$(C_TEST) $(ARCHIVE) -lcmocka -lpthread -lm

# Not under valgrind: what takes the allocator's place, and the threads' test, which would take minutes.
test-c: $(addprefix build/tests/test_,$(C_TESTS)) $(addprefix build/tests/static_,$(STATIC_TESTS)) \
    $(foreach p,loop train digits predict,build/bin/$p-c build/bin/$p-cpp)
	for test in $(C_TESTS); do build/tests/test_$$test || exit 1; done
	for test in $(STATIC_TESTS); do build/tests/static_$$test || exit 1; done
	printf '%s\n' $(filter-out allocation% threads_count,$(C_TESTS)) | \
	    xargs -P "$$(nproc)" -I TEST $(VALGRIND) build/tests/test_TEST
	for program in loop-c train-c loop-cpp train-cpp; do \
	    $(VALGRIND) build/bin/$$program data/linnerud.csv 3 build/$$program.txt || exit 1; done
	for program in digits-c digits-cpp; do for dtype in float32 float64; do \
	    $(VALGRIND) build/bin/$$program data/digits.csv $$dtype build/$$program-$$dtype.txt \
	        build/$$program-$$dtype.safetensors 1 || exit 1; done; done
	for program in predict-c predict-cpp; do \
	    $(VALGRIND) build/bin/$$program data/digits.csv build/digits-c-float64.safetensors \
	        > build/$$program.txt || exit 1; done
	for example in loop train; do cmp build/$$example-c.txt build/$$example-cpp.txt || exit 1; done
	for file in float32.txt float32.safetensors float64.txt float64.safetensors; do \
	    cmp build/digits-c-$$file build/digits-cpp-$$file || exit 1; done
	cmp build/predict-c.txt build/predict-cpp.txt

# The same bits on this processor and on two older ones, without FMA and without AVX-512, as an emulator has them.
test-levels: build/bin/train-c build/bin/digits-c $(addprefix build/tests/test_,bits mse sgd activation)
ifeq ($(shell uname -m),x86_64)
	build/bin/train-c data/diabetes.csv 1 build/native.txt > /dev/null
	build/bin/digits-c data/digits.csv float32 build/native-digits.txt build/native.safetensors 1 > /dev/null
	for cpu in Nehalem Haswell; do \
	    qemu-x86_64 -cpu $$cpu build/bin/train-c data/diabetes.csv 1 build/$$cpu.txt > /dev/null && \
	    cmp build/native.txt build/$$cpu.txt && \
	    qemu-x86_64 -cpu $$cpu build/bin/digits-c data/digits.csv float32 build/$$cpu-digits.txt \
	        build/$$cpu.safetensors 1 > /dev/null && \
	    cmp build/native-digits.txt build/$$cpu-digits.txt && cmp build/native.safetensors build/$$cpu.safetensors && \
	    echo "test-levels: the same bits on $$cpu" || exit 1; done
	for cpu in Nehalem Haswell; do \
	    PENTE_BITS=few PENTE_EMULATED=1 qemu-x86_64 -cpu $$cpu build/tests/test_bits || exit 1; done
	for test in mse sgd activation linear; do qemu-x86_64 -cpu Nehalem build/tests/test_$$test || exit 1; done
endif

test-python: build/venv/pente.stamp build/bin/predict-c
	$(PYTHON) -m pytest bindings/python/tests

# The wheel and its source distribution as such, and the wheel without NumPy and with other CPythons.
test-wheel: build/dist.stamp
	$(PYTHON) -m pytest bindings/python/dist_tests
	tools/test_wheel.sh

# The derivations compute what they derive.
test-docs: build/venv/pente.stamp
	$(PYTHON) -m pytest -q -p no:cacheprovider -W error --doctest-glob='*.md' docs/gradients.md bindings/python/README.md

# What the README and the documentation show is what the tests run.
test-readme:
	python3 tools/check_readme.py

test-format: | build/setup.stamp
	$(SWIFT) format lint --recursive --strict Sources Tests bindings/swift benchmarks/swift Package.swift

-include bindings/mpi/mpi.mk
-include Tests/reliability/check.mk  # whose rules want the names above

clean:
	rm -rf build .build .build-bench
