# Everything here is one command of a tool; `make` alone lists it.
.DEFAULT_GOAL := help
PY := .venv/bin/python
# On a real cluster one failure does not tell a bug from a bad minute of the machine. What fails twice
# fails, and so do many; what passes only then is listed with its first failure, and is to be found.
ONCE_MORE := --reruns 1 --max-suite-reruns 4 --rerun-show-tracebacks
CLUSTER ?= devcluster
export CLUSTER

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.demo: requirements/demo.lock requirements/install
	@requirements/install demo

.venv/.dev: requirements/dev.lock requirements/install pyproject.toml
	@requirements/install dev

init: .venv/.dev ## make the Python environment (.venv) with everything for development

demo: .venv/.demo ## Kubernetes up, images, operator, a model; ask it a question (CLUSTER=existing|kind|k3d)
	@$(PY) -m devcluster.demo up

demo-down: .venv/.demo ## take all of it away again
	@$(PY) -m devcluster.demo down

test: .venv/.dev check ## check, then the tests on real Kubernetes API servers and nodes (rollouts, gitops, dataplane, scaling and zero have targets of their own)
	@$(MAKE) --no-print-directory slow
	@$(MAKE) --no-print-directory -j2 api e2e
	@$(MAKE) --no-print-directory fuzz

check: .venv/.dev fmt-check lint arch type unit ## the fast gate: format, lint, layers, types, unit and contract tests, links

fmt: .venv/.dev ## format the code
	.venv/bin/ruff format . && .venv/bin/ruff check --fix-only .

fmt-check: .venv/.dev
	@.venv/bin/ruff format --check .

lint: .venv/.dev ## ruff
	@.venv/bin/ruff check .

arch: .venv/.dev ## the layers (import-linter)
	@.venv/bin/lint-imports --no-cache

type: .venv/.dev ## mypy, strict
	@.venv/bin/mypy

unit: .venv/.dev ## unit and contract tests, but for the slow ones
	@$(PY) -m pytest -q -n 2 --dist loadfile -m "not api and not e2e and not slow"

slow: .venv/.dev ## unit tests that start processes, kill a real Redis, drain, or generate for seconds
	@$(PY) -m pytest -q -n 2 --dist loadfile -m "slow and not api and not e2e"

api: .venv/.dev ## tests on real API servers without a node, two side by side
	@$(PY) -m pytest tests/api -n 2 --dist loadfile -m "not gitops" $(ONCE_MORE) --durations=15

rollouts: .venv/.dev ## whole rollouts with real pods under traffic
	$(PY) -m pytest tests/e2e -m rollouts

gitops: .venv/.dev ## tests with a real Argo CD (compiled the first time) on a real API server
	$(PY) -m devcluster build argocd >/dev/null
	$(PY) -m pytest tests/api -m gitops

dataplane: .venv/.dev ## rollouts through a real Envoy Gateway (compiled the first time), on a real Kubernetes with a node
	$(PY) -m devcluster build envoy-gateway >/dev/null
	$(PY) -m pytest tests/e2e -m dataplane

zero: .venv/.dev ## servers that sleep and are woken through the gateway, on a real Kubernetes with a node
	$(PY) -m pytest tests/e2e -m zero

scaling: .venv/.dev ## autoscaling by a real metrics-server, KEDA (both compiled the first time) and Prometheus, on a real Kubernetes with a node
	$(PY) -m devcluster build metrics-server keda >/dev/null
	$(PY) -m pytest tests/e2e -m scaling

e2e: .venv/.dev ## tests on a real Kubernetes with a node and both images
	@$(PY) -m pytest tests/e2e -m "not rollouts and not dataplane and not scaling and not zero" $(ONCE_MORE) --durations=15

fuzz: .venv/.dev ## thousands of requests made from the OpenAPI document: every promise is kept
	PYTHONPATH=runtime:tests:. $(PY) -m support.api_fuzz 25

crds: .venv/.dev ## regenerate crds/ and docs/api.md from the operator's types
	$(PY) -m modelserver_operator.apis.generate

reference: .venv/.dev ## regenerate docs/settings.md from the runtime's settings
	@$(PY) -m modelserver_runtime.settings.reference > docs/settings.md

images: .venv/.demo ## build both images
	@$(PY) -m devcluster images

locks: .venv/.dev ## regenerate the hash-pinned requirements
	requirements/compile

bench: .venv/.dev ## every benchmark (long); results in bench/results
	$(PY) -m bench.operator && $(PY) -m bench.runtime && $(PY) -m bench.engine && $(PY) -m bench.server && $(PY) -m bench.router && $(PY) -m bench.gateway && $(PY) -m bench.prefix_affinity && $(PY) -m bench.coldstart && $(PY) -m bench.zero && $(PY) -m bench.soak && $(PY) -m bench.rollout && $(PY) -m bench.rollout_traffic && $(PY) -m bench.report

.PHONY: help init demo demo-down test check fmt fmt-check lint arch type unit slow api rollouts gitops dataplane scaling zero e2e fuzz crds reference images locks bench
