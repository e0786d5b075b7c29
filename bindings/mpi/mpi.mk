# Several processes, on MPI: included by the Makefile. What is made here is no part of the library.

build/setup-mpi.stamp: tools/setup.sh
	tools/setup.sh mpi
	@mkdir -p $(@D) && touch $@

# Engines that train together have a venv of their own.
build/mpi-venv/stamp: build/setup-mpi.stamp bindings/mpi/requirements.txt
	python3 -m venv build/mpi-venv
	build/mpi-venv/bin/python -m pip install --quiet --upgrade -r bindings/mpi/requirements.txt
	touch $@

MPI_LAUNCH := mpirun $(shell mpirun --version 2>&1 | grep -q "Open MPI" && echo --oversubscribe \
    $$(test "$$(id -u)" != 0 || echo --allow-run-as-root))
MPI_C       = mpicc -std=gnu11 -Iinclude -Ibindings/mpi $(CFLAGS) $(WARNINGS) $(filter %.c,$^) -o $@ $(LINK) -lm

build/bin/train-mpi: bindings/mpi/train_mpi.c bindings/mpi/pente_mpi.c bindings/c/table.c bindings/mpi/pente_mpi.h $(LIBRARY) \
    | build/setup-mpi.stamp
	@mkdir -p $(@D)
	$(MPI_C)

build/tests/test_mpi: Tests/mpi/test_mpi.c bindings/mpi/pente_mpi.c bindings/mpi/pente_mpi.h $(LIBRARY) | build/setup-mpi.stamp
	@mkdir -p $(@D)
	$(MPI_C)

build/bench/mpi: benchmarks/mpi.c bindings/mpi/pente_mpi.c bindings/mpi/pente_mpi.h $(LIBRARY) | build/setup-mpi.stamp
	@mkdir -p $(@D)
	$(MPI_C)

# The diabetes data, shared out among 1, 2 and 4 ranks: the same losses; and in Python, with two.
.PHONY: run-mpi test-mpi check-mpi check-engines
run-mpi: build/bin/train-mpi build/mpi-venv/pente.stamp
	for ranks in 1 2 4; do echo "$$ranks ranks" && \
	    $(MPI_LAUNCH) -n $$ranks build/bin/train-mpi data/diabetes.csv 1 || exit 1; done
	$(MPI_LAUNCH) -n 2 build/mpi-venv/bin/python bindings/mpi/train_mpi.py data/diabetes.csv

test: test-mpi
test-mpi: build/tests/test_mpi build/mpi-venv/pente.stamp
	Tests/mpi/check.sh build/tests/test_mpi build/mpi-venv/bin/python

# Ranks on two hosts, what they cost each other, and other engines over the same functions.
check: check-mpi
check-mpi: test-mpi build/bench/mpi check-engines
	Tests/mpi/check_netns.sh build/tests/test_mpi build/bench/mpi
	$(MPI_LAUNCH) -n 2 build/bench/mpi 1000000 11

build/engines-venv/stamp: bindings/mpi/requirements-engines.txt build/setup.stamp
	python3 -m venv build/engines-venv
	build/engines-venv/bin/python -m pip install --quiet --upgrade -r bindings/mpi/requirements-engines.txt
	touch $@

check-engines: build/engines-venv/pente.stamp
	for engine in dask ray; do build/engines-venv/bin/python bindings/mpi/train_$$engine.py data/diabetes.csv || exit 1; done
