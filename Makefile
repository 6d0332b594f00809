# The commands of the project. Each does all of its own set-up.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CARGO_TERM_PROGRESS_WHEN ?= never

.PHONY: help demo test bench scale lint static generate kubernetes node image profile bench-webhook chaos fuzz

help: ## Show the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | column -t -s $$'\t'

demo: kubernetes ## Show on a real Kubernetes what rrsa does, step by step (about a minute once built)
	cargo build --locked --bins --examples
	target/debug/examples/demo

test: kubernetes node image lint static ## Everything that CI runs
	cargo test --locked --no-fail-fast
	cargo build --locked --bins --examples
	target/debug/examples/demo

bench: ## Measure; figures of one run may be compared, those of two machines may not
	cargo bench --locked --no-default-features --bench credentials
	cargo bench --locked --bench webhook
	$(MAKE) bench-webhook
	$(MAKE) scale

bench-webhook: kubernetes ## Measure the webhook as a process; FIGURES="--neighbours DIR --only reviews" chooses
	deploy/program.sh
	figures=$$(deploy/program.sh "" webhook-figures) && $$figures $(FIGURES)

# What scale is given: SCALE='--bindings 10000 --namespaces 500 --steady 60 --due 1000 --due-namespaces 50' is design 9.
SCALE ?=
scale: kubernetes ## Measure the release build with many bindings on a real API server (SCALE='--bindings 10000 …')
	cargo build --locked --release --bin rrsa --example simulators --example scale
	target/release/examples/scale $(SCALE)

chaos: kubernetes ## 1,000 pods while webhook replicas restart and their authority rotates 20 times (minutes)
	RRSA_TEST_CHAOS=full cargo test --locked --test cluster chaos:: -- --nocapture

fuzz: ## Fuzz review → patch for ten minutes on one core
	fuzz/run.sh 600

lint: ## Formatting, clippy, documentation, and the library without the operator
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

static: ## The library alone in a static program, which is run once
	tests/musl.sh

generate: ## Write the generated files anew (crds/, deploy/, the chart's schema, docs/cli.md, configuration.md, values.md, …)
	cargo run --locked --quiet -- crd > crds/alibabarolebindings.yaml.new
	mv crds/alibabarolebindings.yaml.new crds/alibabarolebindings.yaml
	cargo run --locked --quiet -- reference > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md
	cargo run --locked --quiet -- reference reasons > docs/reasons.md.new
	mv docs/reasons.md.new docs/reasons.md
	cargo run --locked --quiet -- reference decisions > docs/decisions.md.new
	mv docs/decisions.md.new docs/decisions.md
	cargo run --locked --quiet -- config schema > docs/configuration.schema.json.new
	mv docs/configuration.schema.json.new docs/configuration.schema.json
	cargo run --locked --quiet -- config page > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md
	UPDATE_EXPECTED=1 cargo test --locked --quiet --test vectors the_table_is_fresh > /dev/null
	UPDATE_EXPECTED=1 cargo test --locked --quiet --test chart the_schema_of_the_values > /dev/null
	cp crds/alibabarolebindings.yaml charts/rrsa/files/alibabarolebindings.yaml
	charts/render.sh deploy
	UPDATE_EXPECTED=1 cargo test --locked --quiet --test chart the_reference_of_the_values_is_fresh > /dev/null

kubernetes: ## Build the Kubernetes of tests and demo (slow once for each machine)
	@tests/kubernetes/build.sh > /dev/null

image: ## Build the release image without Docker, into target/image (a release build: ten minutes when cold)
	deploy/image.sh

profile: ## Record anew what the image's program does under load, for its compiler (a quarter of an hour)
	deploy/profile.sh

node: ## Install what the tests with a real node need (root and Debian; elsewhere they are skipped, and say so)
	@tests/node/packages.sh
	@[ -n "$$(tests/node/namespace.sh --check)" ] || tests/node/sdk.sh > /dev/null
