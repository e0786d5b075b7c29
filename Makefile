# make        builds the shared library into build/lib
# make run    trains on real data from C, Python and Swift, and compares
# make test   runs all tests, in C, Swift and Python

MAJOR   := 0
VERSION := $(shell awk '/define PENTE_VERSION_(MAJOR|MINOR|PATCH)/ {printf "%s%s", dot, $$3; dot="."}' include/pente.h)
SONAME  := libpente.so.$(MAJOR)
LIBRARY := build/lib/libpente.so.$(VERSION)
SWIFT   ?= swift
SOURCES := Package.swift $(shell find Sources include -type f)

.PHONY: all lib
all: lib
lib: $(LIBRARY)

# Embedded Swift: libc is all that it needs. Everything but pente_* is local, or it would clash in a Swift host.
$(LIBRARY): $(SOURCES)
	PENTE_EMBEDDED=1 $(SWIFT) build -c release --product pente --scratch-path .build-embedded -Xswiftc -use-ld=lld \
	    $(addprefix -Xlinker ,--version-script=$(CURDIR)/Sources/PenteC/exports.map -soname=$(SONAME) --gc-sections \
	    --icf=all --no-undefined --wrap=posix_memalign --wrap=free)
	@mkdir -p build/lib
	cp .build-embedded/release/libpente.so $@
	strip --strip-unneeded $@
	ln -sf $(notdir $@) build/lib/$(SONAME)
	ln -sf $(SONAME) build/lib/libpente.so
