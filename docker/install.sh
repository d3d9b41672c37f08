#!/bin/sh
# Installs into a separate virtual environment, every file checked against the hashes of the lock:
#   install.sh libraries DIR    what the product needs at run time: the lock's versions, without its development tools
#   install.sh product DIR      the product itself, from the working directory
# TORCH_BACKEND, TORCH_INDEX, TORCH_SHA256: see README.md. PyTorch's own builds have hashes that the lock does not know.
set -eu

what=${1:?libraries or product}
target=${2:?directory of the virtual environment}
tools=${TOOLS:-/tmp/stream-ad-tools}
TORCH_BACKEND=${TORCH_BACKEND:-cpu}
export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE="${UV_NO_CACHE-true}" PIP_DISABLE_PIP_VERSION_CHECK=1

# locked NAME LOCK: the lock's lines for one package, hashes included
locked() {
    awk -v name="$1==" '/^[^ ]/ { on = index($0, name) == 1 } on' "$2"
}

torch() {
    version=$(locked torch requirements.lock | sed -n '1s/^torch==\([^ ]*\).*/\1/p')
    if [ -n "${TORCH_SHA256:-}" ]; then
        echo "torch==$version+$TORCH_BACKEND --hash=sha256:$TORCH_SHA256" > "$tools/torch.txt"
        set -- --require-hashes
    else
        echo "torch==$version" > "$tools/torch.txt"
        set --
    fi
    if [ -n "${TORCH_INDEX:-}" ]; then
        set -- "$@" --default-index "$TORCH_INDEX"
    else
        set -- "$@" --torch-backend "$TORCH_BACKEND"
    fi
    "$tools/bin/uv" pip install --python "$target/bin/python" --no-deps "$@" -r "$tools/torch.txt"
}

# The lock holds development tools too: names come from what the product asks for, versions and hashes from the lock.
libraries() {
    python3 -m venv "$tools"
    locked uv requirements-nodeps.lock > "$tools/uv.txt"
    "$tools/bin/python" -m pip install --quiet --no-cache-dir --no-deps --require-hashes -r "$tools/uv.txt"
    "$tools/bin/uv" venv --python "$(command -v python3)" "$target"
    "$tools/bin/uv" pip compile --quiet --no-header --no-annotate --python "$target/bin/python" \
        -c requirements.lock pyproject.toml -o "$tools/names.txt"
    left_out='^$'
    if [ "$TORCH_BACKEND" != locked ]; then
        torch
        left_out='^\(torch\|triton\|nvidia-.*\|cuda-.*\)=='
    fi
    grep -v "$left_out" "$tools/names.txt" | sed 's/[=;].*//' | while read -r name; do
        locked "$name" requirements.lock
    done > "$tools/libraries.txt"
    "$tools/bin/uv" pip install --python "$target/bin/python" --no-deps --require-hashes -r "$tools/libraries.txt"
    "$tools/bin/uv" pip check --python "$target/bin/python"
}

product() {
    for name in hatchling packaging pathspec pluggy trove-classifiers; do
        locked "$name" requirements.lock
    done > "$tools/build.txt"
    "$tools/bin/uv" pip install --python "$tools/bin/python" --no-deps --require-hashes -r "$tools/build.txt"
    PATH="$tools/bin:$PATH" "$tools/bin/uv" build --wheel --no-build-isolation --python "$tools/bin/python" \
        --out-dir "$tools/dist" .
    "$tools/bin/uv" pip install --python "$target/bin/python" --no-deps --compile-bytecode "$tools"/dist/*.whl
}

case $what in
    libraries) libraries ;;
    product) product ;;
    *) echo "install.sh: expected libraries or product, found $what" >&2; exit 2 ;;
esac
