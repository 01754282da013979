#!/usr/bin/env bash
# Makes this machine ready. Does nothing, in a moment, where everything is there already.
#   scripts/setup.sh tools    the Debian packages (compilers, emulator)
#   scripts/setup.sh core     tools, and .venv with mbx-deploy: enough to build and run
#   scripts/setup.sh test     tools, and .venv with everything: training, export, tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly here="$(pwd -P)" venv=.venv
exec 9<scripts/setup.sh
flock 9 # two makes at once would install into each other

say() { echo "setup: $*" >&2; }

die() {
    echo "error: $1" >&2
    echo "  hint: $2" >&2
    exit 2
}

# Installs Debian packages where the user may, otherwise says which and how.
debian_install() {
    local command="apt-get install -y --no-install-recommends $*"
    local -a as_root=(env DEBIAN_FRONTEND=noninteractive)
    if [ "$(id -u)" != 0 ]; then
        command="sudo $command"
        as_root=(sudo -n "${as_root[@]}")
    fi
    command -v apt-get >/dev/null ||
        die "tools are missing, and this is no Debian: need what Debian calls $*" \
            "install them with your system's package manager, then run this again"
    "${as_root[@]}" true 2>/dev/null || die "Debian packages are missing: need $*" "run: $command"
    say "installing Debian packages: $*"
    local -a wait=(-o DPkg::Lock::Timeout=300)
    "${as_root[@]}" apt-get "${wait[@]}" update -qq </dev/null 9<&- >&2 ||
        say "apt-get update failed; trying with the lists that are here"
    # 9<&-: a service that a package starts would keep the lock.
    "${as_root[@]}" apt-get "${wait[@]}" install -y -qq --no-install-recommends "$@" \
        </dev/null 9<&- >&2 ||
        die "Debian packages could not be installed: need $*" "run: $command"
}

# A name alone proves nothing (pyenv's shims), so each Python is run.
suits() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

first_python() {
    local candidate
    # 3.11 is what everything was tested on.
    for candidate in python3.11 python3.12 python3.13 python3 /usr/bin/python3; do
        if suits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# Prints the first Python on PATH that is 3.11 or newer and can make environments.
base_python() {
    first_python && return
    debian_install python3 python3-venv
    first_python ||
        die "no suitable Python on PATH: got $(python3 --version 2>&1), need 3.11 or newer with venv" \
            "install Python 3.11 to 3.13, and see that 'python3.11 -m venv --help' works"
}

# The doctor runs on any Python; that of .venv needs no search.
python="$venv/bin/python"
suits "$python" || python="$(base_python)"

missing_tools() { "$python" -m mbx_deploy.system.doctor; }

missing="$(missing_tools)"
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086  # one word a package
    debian_install $missing
    missing="$(missing_tools)"
    [ -z "$missing" ] || die "tools are still missing after the installation: need $missing" \
        "see why they do not run: $python -m mbx_deploy.system.doctor"
fi

# Programs that only tests compare with: without them these are skipped.
if [ "${1:-}" = test ]; then
    peers=()
    for peer in flac sox espeak-ng openocd clang chromium ffmpeg; do
        command -v "$peer" >/dev/null || peers+=("$peer")
    done
    # clang only suggests its runtimes, libFuzzer among them.
    ls /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a >/dev/null 2>&1 || peers+=(libclang-rt-dev)
    command -v wasm-ld >/dev/null || peers+=(lld)
    command -v riscv64-unknown-elf-gcc >/dev/null || peers+=(gcc-riscv64-unknown-elf)
    [ -e /usr/lib/picolibc/riscv64-unknown-elf/picolibc.specs ] || peers+=(picolibc-riscv64-unknown-elf)
    command -v qemu-system-riscv32 >/dev/null || peers+=(qemu-system-misc)
    command -v node >/dev/null || peers+=(nodejs)
    ldconfig -p | grep libportaudio >/dev/null || peers+=(libportaudio2)
    command -v bossac >/dev/null || peers+=(bossa-cli)
    command -v npm >/dev/null || peers+=(npm)
    if [ "${#peers[@]}" -gt 0 ]; then
        (debian_install "${peers[@]}") || say "going on without ${peers[*]}: tests that compare with them are skipped"
    fi
fi

# Everything that the environment depends on, its place included: its scripts hold that path.
environment_key() { (echo "$here" && cat pyproject.toml constraints.txt scripts/setup.sh) | sha256sum; }

# True where .venv has what was asked for. The test environment holds the core one.
is_ready() {
    "$venv/bin/python" -c '' 2>/dev/null && grep -qsxF "$key" "$@"
}

pip_install() {
    "$venv/bin/python" -m pip install -qq --no-input --disable-pip-version-check \
        -c constraints.txt "$@" </dev/null >&2
}

install_environment() {
    local base
    # A copied or half-made environment is made again.
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
        ! head -n 3 "$venv/bin/pip" | grep -qF "$here/$venv/bin/"; then
        base="$(base_python)"
        say "making $venv with $("$base" --version)"
        "$base" -m venv --clear "$venv"
    fi
    say "installing Python packages into $venv$2"
    pip_install hatchling
    pip_install --no-build-isolation -e ".$1"
}

key="$(environment_key)"
case "${1:-}" in
tools) ;;
core)
    is_ready "$venv/.ready-core" "$venv/.ready-test" && exit
    install_environment "" ""
    echo "$key" >"$venv/.ready-core"
    ;;
test)
    is_ready "$venv/.ready-test" && exit
    install_environment "[test]" " (torch, tensorflow and more: some minutes)"
    # The emulator of the RP2040: a package of npm's, beside the Python ones; mbx_deploy/system/doctor.py has the line.
    npm install --silent --no-audit --no-fund --prefix "$here/$venv" rp2040js@1.4.1 </dev/null >&2 ||
        say "going on without rp2040js: tests that boot the Pico's image are skipped"
    echo "$key" >"$venv/.ready-test"
    ;;
*) die "unknown set-up: got '${1:-}', need tools, core or test" "run: make demo, or make test" ;;
esac
