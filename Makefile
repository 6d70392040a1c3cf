# The operator's commands. Everything is installed into the checkout (.venv, .runtime); state lies under .millrace.
PYTHON ?= python3.11
RUN := .venv/bin/python -m infra.local
TESTS ?= tests

# Values given on the command line reach the recipes through the environment, unexpanded: a query may hold quotes,
# dollars and 100 kB. Cleared from MAKEFLAGS, where they would count a second time against the limit of the kernel.
MAKEOVERRIDES =
override Q := $(value Q)
override CONFIG := $(value CONFIG)
override S := $(value S)
override T := $(value T)
override D := $(value D)
export Q CONFIG S T D

.DEFAULT_GOAL := help
.PHONY: help install present up down status logs apply sql report demo bench million test check gpu test-gpu test-athena test-snowflake format lock records providers

help:  ## what there is to do
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "make %-8s %s\n", $$1, $$2}'

install:  ## install what is missing into the checkout
	@$(PYTHON) -c '' 2>/dev/null || { echo 'millrace: Python 3.11 is missing: install it, or say where it is with PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -m infra.local.install

# What only looks at a running stack, or stops it, must not change the packages under it.
present:
	@test -x .venv/bin/python || $(MAKE) --no-print-directory install

up: install  ## start the stack; returns when it is healthy; CONNECT=1 for Kafka Connect beside it
	@$(RUN) up $(if $(filter 1,$(CONNECT)),--connect)

down: present  ## stop the stack; its state stays
	@$(RUN) down

status: present  ## services and Flink jobs
	@$(RUN) status

logs: present  ## follow the logs; S=service for one of them
	@$(RUN) logs $$S

apply: install  ## publish the configuration in the folder CONFIG
	@$(RUN) exec -- python -m ingest.apply "$${CONFIG:-config}"

sql: install  ## Q="select ..." over the tables and views of the lake; T=tenant for its rows alone; prints CSV
	@$(RUN) exec -- python -m streams.lake_sql

report: install  ## what was used, by whom and for how much, as one HTML file; D=days
	@$(RUN) exec -- python -m streams.report --days "$${D:-7}"

demo: up  ## a real batch and real-time calls, from the SDK to Parquet
	@$(RUN) exec -- python -m examples.demo

bench: install  ## the benchmarks the README quotes
	@$(RUN) exec -- python -m tests.bench

million: up  ## a batch of MILLRACE_MILLION_LINES=1000000 lines with kills on the way, compared to the line; plot in docs/million.svg
	@MILLRACE_MILLION_LINES=$${MILLRACE_MILLION_LINES:-1000000} MILLRACE_MILLION_KILLS=1 MILLRACE_MILLION_PLOT=docs/million.svg \
		$(RUN) exec -- python -m tests.bench million

check: install  ## style and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

test: check  ## every test that needs no GPU; TESTS=tests/unit for a part
	@.venv/bin/python -m pytest $(TESTS)

gpu: install  ## add what the engine `transformers` needs (4 GB)
	@.venv/bin/uv pip install --quiet --python .venv/bin/python -r requirements-gpu.lock

test-gpu: gpu  ## the tests of that engine; on the CPU where there is no GPU
	@.venv/bin/python -m pytest -m gpu tests/gpu

test-athena: install  ## every view in Trino, Athena's engine, against DuckDB; fetches 450 MB once
	@.venv/bin/python -m tests.athena.install
	@.venv/bin/python -m pytest -m athena tests/athena

test-snowflake: install  ## every view in Snowflake's dialect, by its double fakesnow, against DuckDB
	@.venv/bin/python -m tests.snowflake.install
	@.venv/bin/python -m pytest -m snowflake tests/snowflake

format: install  ## put the code into shape
	@.venv/bin/ruff check --fix . && .venv/bin/ruff format .

lock: install  ## resolve requirements.in into requirements.lock
	@UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile --quiet --no-emit-index-url --generate-hashes \
		--python-version 3.11 requirements.in -o requirements.lock
	@UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile --quiet --no-emit-index-url --generate-hashes \
		--python-version 3.11 requirements-gpu.in -o requirements-gpu.lock
	@UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile --quiet --no-emit-index-url --generate-hashes \
		--python-version 3.11 tests/snowflake/requirements.in -o tests/snowflake/requirements.lock

records: install  ## write what follows from schemas and views: schemas/records.py, infra/terraform/declared.json
	@.venv/bin/python -m schemas.generate
	@.venv/bin/python -m infra.declared

providers: install  ## write tests/terraform/providers/*.json for what infra/terraform declares; fetches 80 MB
	@.venv/bin/python -m tests.terraform.snapshot
