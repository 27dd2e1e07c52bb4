# One command for each thing that people do; `make help` lists them.

SHELL = /bin/bash
VENV = $(shell tests/environment)
RUN = tools=$(VENV) && [ -n "$$tools" ] && export PATH="$$tools/bin:$$PATH" &&

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

check:  ## quality gates, unit and contract tests; needs no root
	@$(RUN) tests/gates && python -m pytest

test: prepare  ## everything a new machine needs, then all tests
	@$(RUN) tests/gates && tests/all

demo: prepare  ## everything a new machine needs, then the main job, on this screen
	@tests/cluster/demo

bench: prepare  ## side by side with bare srun and Apptainer: one table, build/bench.json
	@$(RUN) python tests/bench/bench.py

plugin:  ## build the SPANK plugin and its helpers against this machine's Slurm, and the merger
	@$(MAKE) -C spank
	@$(MAKE) -C merge

deb:  ## build/packages/*.deb for this machine's Python and Slurm
	@packaging/deb

rpm:  ## build/packages/*.rpm for this machine's Python and Slurm
	@packaging/rpm

man:  ## write the manual pages into build/man
	@$(RUN) python docs/make_man.py build/man

format:  ## format Python and C sources
	@$(RUN) ruff format . && ruff check --fix . ; clang-format -i spank/*.c spank/*.h merge/*.c merge/*.h

prepare:
	@tests/prepare

clean:  ## remove what was built in this checkout
	rm -rf build spank/build merge/build

.PHONY: help check test demo bench plugin deb rpm man format prepare clean
.DEFAULT_GOAL := help
