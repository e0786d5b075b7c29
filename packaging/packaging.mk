# What puts the library on a machine; the Makefile includes this.
#
# make install    into PREFIX, below DESTDIR if that is set; make uninstall takes it away again
# make tarball    the same as an archive to be unpacked anywhere
# make deb        Debian packages, libpente0 and libpente-dev
# make dist       these two and the Python package, with checksums
# What is to be handed on goes to build/dist.

# GNU's names are in lower case, others' in upper case.
prefix     ?= /usr/local
PREFIX     ?= $(prefix)
libdir     ?= $(PREFIX)/lib
LIBDIR     ?= $(libdir)
includedir ?= $(PREFIX)/include
INCLUDEDIR ?= $(includedir)
mandir     ?= $(PREFIX)/share/man
MANDIR     ?= $(mandir)

# Until version 1.0 it is the minor version that may change the interface.
SERIES    := $(word 1,$(subst ., ,$(VERSION))).$(word 2,$(subst ., ,$(VERSION)))
CMAKE_DIR  = $(LIBDIR)/cmake/Pente
INSTALLED  = $(INCLUDEDIR)/pente.h $(LIBDIR)/libpente.a $(LIBDIR)/libpente.so $(LIBDIR)/$(SONAME) \
             $(LIBDIR)/$(notdir $(LIBRARY)) $(LIBDIR)/pkgconfig/pente.pc $(MANDIR)/man3/pente.3 \
             $(CMAKE_DIR)/PenteConfig.cmake $(CMAKE_DIR)/PenteConfigVersion.cmake

# What the templates ask for. pkg-config's --define-prefix wants the folders to be named by the prefix.
FILL = sed -e 's|@VERSION@|$(VERSION)|' -e 's|@SERIES@|$(SERIES)|' -e 's|@SONAME@|$(SONAME)|' \
    -e 's|@PREFIX@|$(PREFIX)|' \
    -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' \
    -e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' \
    -e "s|@LIBDIR_TO_INCLUDEDIR@|$$(realpath -m --relative-to='$(LIBDIR)' '$(INCLUDEDIR)')|"

.PHONY: check-folders install uninstall tarball deb dist test-install test-tarball test-deb test-dist

check-folders:
	$(foreach name,PREFIX LIBDIR INCLUDEDIR MANDIR,$(if $(filter-out 1,$(words $($(name))))$(filter-out /%,$($(name))), \
	    $(error $(name) is '$($(name))', not the absolute path of a folder, without spaces)))

install: check-folders $(LIBRARY) $(ARCHIVE)
	install -d $(sort $(dir $(addprefix $(DESTDIR),$(INSTALLED))))
	install -m 644 include/pente.h $(DESTDIR)$(INCLUDEDIR)
	install -m 755 $(LIBRARY) $(DESTDIR)$(LIBDIR)
	install -m 644 $(ARCHIVE) $(DESTDIR)$(LIBDIR)
	ln -sf $(notdir $(LIBRARY)) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libpente.so
	for file in $(filter %.pc %.cmake %/pente.3,$(INSTALLED)); do \
	    $(FILL) bindings/c/$${file##*/}.in > $(DESTDIR)$$file && chmod 644 $(DESTDIR)$$file || exit 1; done

uninstall: check-folders
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	test ! -d $(DESTDIR)$(CMAKE_DIR) || rmdir $(DESTDIR)$(CMAKE_DIR)

# ---- To be handed on -----------------------------------------------------------------------------------------------

# The same source gives the same bytes: their time is that of the last commit, or of what is nearest to one.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2> /dev/null),$(shell stat -c %Y CHANGELOG.md))
RELEASE := pente-$(VERSION)-linux-$(shell uname -m)

tarball: $(LIBRARY) $(ARCHIVE)
	rm -rf build/tarball
	$(MAKE) install DESTDIR= PREFIX=$(CURDIR)/build/tarball/$(RELEASE)
	sed -i 's|^prefix=.*|prefix=$${pcfiledir}/../..|' build/tarball/$(RELEASE)/lib/pkgconfig/pente.pc
	install -m 644 LICENSE build/tarball/$(RELEASE)
	@mkdir -p build/dist && rm -f build/dist/SHA256SUMS
	tar --directory build/tarball --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 --numeric-owner \
	    --mode=u=rwX,go=rX --create $(RELEASE) | gzip -9n > build/dist/$(RELEASE).tar.gz
	rm -rf build/tarball

# Who makes a Debian package signs its changelog.
DEBFULLNAME ?= $(shell git log -1 --format=%an 2> /dev/null)
DEBEMAIL    ?= $(shell git log -1 --format=%ae 2> /dev/null)
DEBIAN      := build/deb/pente-$(VERSION)

# Of the library as it is: -d, since nothing is compiled that would want Debian's build-essential.
deb: $(LIBRARY) $(ARCHIVE) | build/setup-test.stamp
	$(if $(DEBEMAIL),,$(error DEBFULLNAME and DEBEMAIL are not set, and there is no commit to take them from))
	rm -rf build/deb
	mkdir -p $(DEBIAN) build/dist
	cp -r packaging/debian CHANGELOG.md $(DEBIAN)
	for file in control changelog; do \
	    $(FILL) -e 's|@MAINTAINER@|$(DEBFULLNAME) <$(DEBEMAIL)>|' \
	        -e "s|@DATE@|$$(date --utc --rfc-email --date=@$(SOURCE_DATE_EPOCH))|" \
	        packaging/debian/$$file.in > $(DEBIAN)/debian/$$file || exit 1; \
	    rm $(DEBIAN)/debian/$$file.in; done
	cd $(DEBIAN) && dpkg-buildpackage --build=binary --no-sign -d
	rm -f build/dist/SHA256SUMS && cp build/deb/*.deb build/dist

# Of this version alone: others' files may lie there still.
dist: wheel tarball deb
	cd build/dist && rm -f SHA256SUMS $$(ls | grep -vF $(VERSION)) && sha256sum * > SHA256SUMS

# ---- Tests of the above ---------------------------------------------------------------------------------------------

test-install: $(LIBRARY) $(ARCHIVE) build/bin/train-c | build/setup-test.stamp
	Tests/install/test_install.sh

test-tarball: tarball build/bin/train-c | build/setup-test.stamp
	Tests/install/test_tarball.sh build/dist/$(RELEASE).tar.gz

test-deb: deb build/bin/train-c
	Tests/install/test_deb.sh build/deb

# A wheel, its sdist, the archive and two Debian packages.
test-dist: dist
	cd build/dist && sha256sum --check --quiet SHA256SUMS && test $$(wc -l < SHA256SUMS) = 5 && \
	    test $$(ls | grep -cE '^(pente|libpente(0|-dev))[-_]$(VERSION).*\.(whl|tar\.gz|deb)$$') = 5
	@echo "test-dist: 5 files of $(VERSION), with checksums"
