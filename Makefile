# make demo   trains the embedded model on this machine and ends with a table and a page (ARGS="train.steps=5" to change it)
# make test   the tests (`make slow`: the ones over a minute)   make lint   style, types, imports   make lock   pins anew
#
# Each makes .venv on first use from .locks/$(EXTRA).txt and then runs; a second call installs nothing.
# PY=python3.12 picks the Python of a new .venv; EXTRA=gpu is the set for a CUDA machine; VENV=folder puts it elsewhere;
# WORKERS=4 is how many processes test. A file stays in one, in order: vLLM leaves no process group for what follows it.
PY    ?= python3
EXTRA ?= cpu
VENV  ?= .venv
WORKERS ?= 2
READY := $(VENV)/.ready-$(EXTRA)
RUN   := $(VENV)/bin/python
DEMO  := $(RUN) -m rl.launch examples/geneval.yaml
SHORT := train.steps=100 eval.every=50

.PHONY: demo test slow lint format lock setup
demo: $(READY)
ifeq ($(strip $(ARGS)),)
	@if [ -s runs/geneval/metrics.jsonl ]; then \
	  echo "runs/geneval holds a demo run already. Go on with it:  make demo ARGS=--resume"; \
	  echo "Another one beside it:  make demo ARGS=\"$(SHORT) run.folder=runs/second\"   (or remove runs/geneval)"; \
	else echo "$(DEMO) $(SHORT)"; $(DEMO) $(SHORT); fi
else
	$(DEMO) $(ARGS)
endif

test: $(READY)
	$(RUN) -m pytest -m 'not slow' -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

slow: $(READY)
	$(RUN) -m pytest -m slow -q $(ARGS)

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

setup: $(READY)

lock: $(READY)
	$(RUN) .locks/install.py lock

$(READY): .locks/$(EXTRA).txt .locks/install.py pyproject.toml
	@command -v "$(PY)" >/dev/null || { \
	  echo "easel-rl needs Python 3.11, 3.12 or 3.13, but there is no command $(PY): install one, then name it: make PY=python3.12" >&2; exit 1; }
	@$(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "easel-rl needs Python 3.11, 3.12 or 3.13, but $(PY) is $$($(PY) -V 2>&1): name another one, for example: make PY=python3.12" >&2; exit 1; }
	@$(PY) .locks/install.py install --extra $(EXTRA) --venv $(VENV)
