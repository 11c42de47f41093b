# make demo    builds dmarcd and shows it on generated reports
# make test    runs all checks and tests
# make race    runs them again and watches for races
# make build   builds bin/dmarcd
# make fuzz    fuzzes every parser, each for FUZZTIME (30s, or 5000x for a number of tries)
# make bench   runs the benchmarks
# make chaos   kills, holds, cuts off and fills what dmarcd depends on, and sets its clock, while mail, some of it hostile, arrives: for CHAOS_TIME (2m), for each of SEEDS (1 2 3)
# make load    has clients ask the demo for summaries, and tells how many it answers
# make screenshot   takes the picture of the README anew
# make screenshots  takes pictures of every page, into docs/screenshots
# make sbom    lists what is in bin/dmarcd, in bin/dmarcd.cdx.json (CycloneDX)
# make vuln    looks for known vulnerabilities; needs the network
# make dump    makes the database that a step of the schema before the newest is upgraded from in tests
# make new-machine  follows README and docs word for word on a machine with nothing installed; as root on Debian
# make clean   removes what was built
#
# demo and test first see to what they need: as root on Debian or Ubuntu it is
# installed, otherwise it is said what to install.

SHELL := /bin/sh
export PATH := $(PATH):/usr/local/go/bin
GO       ?= go
FUZZTIME ?= 30s
BENCH    ?= .
CHAOS_TIME ?= 2m
SEEDS    ?= 1 2 3
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)

# The version is stamped here rather than by go build, which fails where git
# distrusts the owner of the clone.
build_flags = -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)'

# To watch for races takes up to ten times as long. These are not watched: they start no goroutines, and what
# uses them side by side is watched where it does; or they try the program, in a process of its own. For
# the same reasons some tests of others are not; see internal/racetest.
calm := ./parse ./dmarc ./advice/groundtruth ./web/internal/...

.PHONY: build demo test race older dump new-machine check fuzz bench chaos load sbom vuln screenshot screenshots deps-demo deps-test clean
.NOTPARALLEL:

build:
	CGO_ENABLED=0 $(GO) build $(build_flags) -o bin/dmarcd ./cmd/dmarcd

demo: deps-demo build
	bin/dmarcd demo

# With DMARCD_TEST_REQUIRE a test that misses something fails, where it would be skipped
# otherwise. -count=1: what is tested is also outside of Go's view. -p 4: many tests wait for
# other processes. -vet=off: check vets everything. -w: nobody debugs them, which makes linking cheaper.
tested = $(in_memory) DMARCD_TEST_OLDER=$$(! test -x bin/older/dmarcd || echo $(CURDIR)/bin/older/dmarcd) DMARCD_TEST_REQUIRE=1

# Databases make and delete files by the thousand, which on disk takes twice the processor time. So
# temporary files are put into memory where it has room for them and programs can be run from
# it, unless TMPDIR is set. What go builds stays on disk.
in_memory = $(shell [ -z "$$TMPDIR" ] || exit 0; f=$$(mktemp /dev/shm/dmarcd.XXXXXX 2>/dev/null) || exit 0; \
	echo exit 0 >$$f && chmod +x $$f && $$f 2>/dev/null && [ $$(df -Pk /dev/shm | awk 'END {print $$4}') -gt 4000000 ] && \
	echo TMPDIR=/dev/shm GOTMPDIR=/tmp; rm -f $$f)

test: deps-test check older
	$(tested) $(GO) test -vet=off -ldflags=-w -p 4 -count=1 -parallel 8 -timeout 40m ./...

race: deps-test older
	$(tested) CGO_ENABLED=1 $(GO) test -vet=off -race -count=1 -parallel 8 -timeout 40m $$($(GO) list ./... | grep -vxF "$$($(GO) list $(calm))")

# What works beside the dmarcd of today: bin/older/dmarcd, that of before the newest
# step of the schema. It is kept while it is the same. A clone without history has none, and does not test it.
older:
	@commit=$$(migrations/older.sh) || commit=; \
	if [ -z "$$commit" ]; then rm -rf bin/older; exit; fi; \
	if [ -x bin/older/dmarcd ] && [ "$$(cat bin/older/commit 2>/dev/null)" = "$$commit" ]; then exit; fi; \
	rm -rf bin/older && mkdir -p bin/older/src && git archive $$commit | tar -x -C bin/older/src && \
		(cd bin/older/src && CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o ../dmarcd ./cmd/dmarcd) && \
		rm -rf bin/older/src && echo $$commit >bin/older/commit

dump: older
	$(GO) test ./migrations -run EveryEarlierStep -count=1 -args -dump $(CURDIR)/bin/older/dmarcd

new-machine:
	deploy/new-machine.sh

# What can be said without running anything.
check:
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .); if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:" >&2; echo "$$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags race ./internal/racetest
	$(GO) tool staticcheck ./...

fuzz:
	@grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | while IFS=: read -r file func; do \
		$(GO) test -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x "$$(dirname "$$file")" || exit 1; \
	done

bench: deps-test
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m ./...

chaos: deps-test
	@for seed in $(SEEDS); do \
		DMARCD_TEST_REQUIRE=1 DMARCD_CHAOS_SEED=$$seed DMARCD_CHAOS_TIME=$(CHAOS_TIME) \
			$(GO) test -count=1 -v -timeout 12h -run WhateverFailsEveryMessageHasOneFate ./cmd/dmarcd || exit 1; \
	done

load: deps-demo
	$(GO) test -run '^$$' -bench SummaryOfTheDemo -benchtime 30000x -timeout 10m ./cmd/dmarcd

sbom: build
	$(GO) run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 bin -json -licenses -version $(VERSION) -output bin/dmarcd.cdx.json bin/dmarcd

vuln:
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

screenshot: deps-test build
	deploy/screenshot.sh

# A few of them are kept, see docs/screenshots/.gitignore.
screenshots: deps-test build
	GO=$(GO) deploy/screenshot.sh --all docs/screenshots

deps-demo:
	@deploy/install-deps.sh demo

deps-test:
	@deploy/install-deps.sh test

clean:
	rm -rf bin dmarcd
