# Each target makes .venv first when it is missing, half made, moved, or older than its requirement files.
# The work itself is done by `stlm`, so that a system without make has the same commands.

PYTHON ?= python3
STLM := .venv/bin/python -m stlm_kit

.PHONY: reproduce test lab lint fuzz data notebooks practice env pins release grade regrade grades FORCE

reproduce: data
	@$(STLM) reproduce

test: data
	@$(STLM) test

lab: data
	@$(STLM) lab

lint: env
	@$(STLM) lint

fuzz: env
	@$(STLM) fuzz

notebooks: data
	@$(STLM) notebooks

# make practice [DIR=folder]: the student's own copy of the course
practice: env
	@$(STLM) practice $(if $(DIR),"$(DIR)")

# make release COURSE_KEY=... [ASSIGNMENT=02]; make hands a COURSE_KEY given to it on to the command's environment.
release: env
	@$(STLM) course release $(ASSIGNMENT)

# make grade SUBMISSIONS=folder [ASSIGNMENT=02]
grade: env
	@$(STLM) course grade "$(SUBMISSIONS)" $(ASSIGNMENT)

# make regrade [ASSIGNMENT=02], after a test was mended
regrade: env
	@$(STLM) course regrade $(ASSIGNMENT)

# make grades FORMAT=csv|canvas|moodle
grades: env
	@$(STLM) course grades --format "$(or $(FORMAT),csv)"

env: .venv/.ready

data: .venv/.data-ready

# An environment that was moved or copied points at its old place: then the stamp names another folder.
ifneq ($(shell cat .venv/.ready 2>/dev/null),$(CURDIR))
.venv/.ready: FORCE
endif

.venv/.ready: requirements.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "The kit needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11." >&2; exit 1; }
	@echo "Setting up .venv (once, about 2 GB and a few minutes) ..."
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@pwd > .venv/.ready

.venv/.data-ready: requirements-data.txt .venv/.ready
	@$(STLM) data install
	@touch .venv/.data-ready

# The joint resolution behind requirements.txt. The suffix of torch's CPU build is left out, so that the same line
# gives the CUDA build on a machine that has a GPU.
pins: env
	@.venv/bin/python -m piptools compile --quiet --extra dev --strip-extras --no-header --no-emit-index-url \
	  --no-emit-find-links --no-emit-trusted-host --no-emit-options --upgrade-package torch==2.13.0 \
	  --output-file requirements.txt pyproject.toml
	@sed -i.bak 's/^\(torch==[0-9.]*\)+cpu/\1/' requirements.txt && rm requirements.txt.bak
