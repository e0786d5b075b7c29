# Attacks on the library, included by the Makefile. Each has a long form, make check-NAME, whose figures stand in
# docs/reliability.md, and a short one, make test-NAME, which make test runs.

# Each section adds the names of its attacks.
ATTACKS :=

# ---- Fuzzing the API ------------------------------------------------------------------------------------------------

# ---- Fuzzing the file readers ---------------------------------------------------------------------------------------

# ---- Failing memory -------------------------------------------------------------------------------------------------

# ---- Failing disks --------------------------------------------------------------------------------------------------

# ---- Threads --------------------------------------------------------------------------------------------------------

# ---- Fork -----------------------------------------------------------------------------------------------------------

# ---- A hostile host -------------------------------------------------------------------------------------------------

# ---- Soak -----------------------------------------------------------------------------------------------------------

ATTACKS += soak
SOAK := Tests/reliability/soak.py

build/tests/soak: Tests/reliability/soak.c $(C_NEEDS) $(LIBRARY) | build/setup-test.stamp
	@mkdir -p $(@D)
	$(CC) -std=c11 $(EXAMPLE) $< $(C_COMMON) -o $@ $(LINK) -lcmocka -lm

check-soak: build/tests/soak build/venv/pente.stamp
	build/tests/soak 1000000000 100000
	$(PYTHON) $(SOAK) 1000000 100000

test-soak: build/tests/soak build/venv/pente.stamp
	build/tests/soak 10000000 10000
	$(PYTHON) $(SOAK) 20000 500

# ---- The same bits --------------------------------------------------------------------------------------------------

# The short form is part of test-c, test-levels, test-python and test-swift. The long one: each run with each number of
# threads, in each language, on each level of processor that there is or that an emulator has.
.PHONY: bits check-bits
check: check-bits
check-bits: export PENTE_BITS := all
check-bits: build/tests/test_bits build/tests/static_bits build/venv/pente.stamp
	build/tests/test_bits
	build/tests/static_bits
	$(PYTHON) -m pytest bindings/python/tests/test_bits.py
	$(SWIFT) test -c release --filter theBitsOfTheTable
ifeq ($(shell uname -m),x86_64)
	for cpu in Haswell Nehalem; do \
	    qemu-x86_64 -cpu $$cpu build/tests/test_bits && \
	    qemu-x86_64 -cpu $$cpu $(PYTHON) -m pytest bindings/python/tests/test_bits.py || exit 1; done
endif

# Writes the table anew, for numbers that are meant to change.
bits: build/tests/test_bits
	build/tests/test_bits rewrite > build/bits.txt
	cp build/bits.txt Tests/data/bits.txt

# ---- Extremes -------------------------------------------------------------------------------------------------------

# ---- NIST StRD ------------------------------------------------------------------------------------------------------

ATTACKS += nist
test-nist: build/venv/pente.stamp
	$(PYTHON) Tests/reliability/nist.py

check-nist: build/venv/pente.stamp judges
	$(PYTHON) Tests/reliability/nist.py --table

# ---- The checked build ----------------------------------------------------------------------------------------------

# ---- Coverage and mutations -----------------------------------------------------------------------------------------

# ---- All of them -----------------------------------------------------------------------------------------------------

.PHONY: check $(addprefix check-,$(ATTACKS)) $(addprefix test-,$(ATTACKS))
test: $(addprefix test-,$(ATTACKS))
check: $(addprefix check-,$(ATTACKS))
	@echo "all checks passed"
