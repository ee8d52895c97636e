#!/bin/sh
# Sets up the virtual environment and the Debian packages it needs. Quick when nothing is missing.
#
#   tools/setup.sh base     enough to run the routers and the demo
#   tools/setup.sh test     what the tests need besides (the default)
#   tools/setup.sh bench    what the benchmarks compare with besides
#   tools/setup.sh long     what the long tests need besides all that: services, brokers, containers, a browser
#
# PYTHON (python3) and VENV (.venv) choose the interpreter and the folder, for example PYTHON=pypy3 VENV=.venv-pypy.
# PACKAGES=no goes on without the Debian packages that are missing.
set -eu
cd "$(dirname "$0")/.."

LEVEL="${1:-test}"
PYTHON="${PYTHON:-python3}"
VENV="${VENV:-.venv}"
MISSING=""

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
want() { case " $MISSING " in *" $1 "*) ;; *) MISSING="$MISSING $1" ;; esac; }
need_command() { command -v "$1" >/dev/null 2>&1 || want "$2"; }
exists() { for file in "$@"; do [ ! -e "$file" ] || return 0; done; return 1; }
need_pkgconfig() { pkg-config --exists "$1" 2>/dev/null || want "$2"; }

# --- what is missing -------------------------------------------------------------------------------------------------

find_missing() {
    MISSING=""
    need_command "$PYTHON" python3
    need_command cc build-essential
    need_command pkg-config pkg-config
    # python-qpid-proton builds without TLS and SASL, silently, when these are not there; and without the plugins
    # (libsasl2-modules) Cyrus SASL offers no mechanism at all.
    need_pkgconfig openssl libssl-dev
    need_pkgconfig libsasl2 libsasl2-dev
    exists /usr/lib/*/sasl2/libplain.so /usr/lib*/sasl2/libplain.so || want libsasl2-modules
    if command -v "$PYTHON" >/dev/null 2>&1; then
        "$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
            || want "$(dev_package)"
        "$PYTHON" -c 'import venv, ensurepip' >/dev/null 2>&1 || want "$(venv_package)"
    else
        want python3-dev
        want python3-venv
    fi
    case "$LEVEL" in test|bench|long)
        need_command curl curl
        need_command openssl openssl
        need_command iperf3 iperf3
        need_command promtool prometheus
        need_command psql postgresql-client
        exists /usr/lib/postgresql/*/bin/postgres || want postgresql
        need_command node nodejs
        need_command npm npm
        need_command h2load nghttp2-client
        need_command wrk wrk
        exists /usr/sbin/saslpasswd2 || want sasl2-bin
        exists /usr/include/proton/container.hpp || want libqpid-proton-cpp12-dev
    esac
    case "$LEVEL" in bench|long)
        exists /usr/sbin/nginx || want nginx-light
        exists /usr/sbin/haproxy || want haproxy
        need_command stunnel stunnel4
    esac
    case "$LEVEL" in long)
        exists /usr/sbin/mariadbd || want mariadb-server
        need_command mariadb-slap mariadb-client
        need_command redis-server redis-server
        need_command redis-benchmark redis-tools
        exists /usr/lib/rabbitmq/bin/rabbitmq-server || want rabbitmq-server
        exists /usr/sbin/sshd || want openssh-server
        need_command sftp openssh-client
        exists /usr/sbin/vsftpd || want vsftpd
        need_command ip iproute2
        exists /usr/sbin/nft || want nftables
        need_command buildah buildah
        exists /usr/sbin/debootstrap || want debootstrap
        need_command chromium chromium
    esac
}
dev_package() { case "$PYTHON" in *pypy3*) echo pypy3-dev ;; *) echo python3-dev ;; esac; }
venv_package() { case "$PYTHON" in *pypy3*) echo pypy3-venv ;; *) echo python3-venv ;; esac; }

install_packages() {
    COMMAND="apt-get install --yes --no-install-recommends$MISSING"
    command -v apt-get >/dev/null 2>&1 || die "please install:$MISSING (Debian's names)"
    [ "$(id -u)" = 0 ] || die "some Debian packages are missing; please run: sudo $COMMAND"
    say "installing$MISSING"
    # Daemons that come with the packages stay off: the tests start their own, elsewhere.
    POLICY=/usr/sbin/policy-rc.d
    if [ ! -e "$POLICY" ]; then
        trap 'rm -f "$POLICY"' EXIT INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$POLICY"
        chmod 755 "$POLICY"
        OURS=1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list of words
    apt-get update -qq </dev/null && $COMMAND -qq </dev/null >/dev/null || die "failed: $COMMAND"
    if [ "${OURS:-}" = 1 ]; then rm -f "$POLICY"; trap - EXIT INT TERM; fi
}

# --- the virtual environment -----------------------------------------------------------------------------------------

check_python() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || die "$PYTHON is $("$PYTHON" -V 2>&1); Python 3.11 or newer is needed (set PYTHON)"
}

# PyYAML's compiled part gains PyPy nothing, and to make it takes PyPy minutes.
case "$PYTHON" in *pypy*) export PYYAML_FORCE_LIBYAML=0 ;; esac

make_venv() {
    [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c 'import pip' 2>/dev/null && return
    say "creating $VENV with $("$PYTHON" -V 2>&1 | head -n 1)"
    rm -rf "$VENV"
    "$PYTHON" -m venv "$VENV"
}

pip_install() { "$VENV/bin/python" -m pip install -qq --disable-pip-version-check -c tools/constraints.txt "$@" </dev/null; }

proton_is_whole() { "$VENV/bin/python" tools/check_proton.py; }

install_proton() {
    proton_is_whole >/dev/null 2>&1 && return
    say "compiling python-qpid-proton (a minute or two)"
    pip_install --no-binary python-qpid-proton 'python-qpid-proton==0.40.*'
    proton_is_whole >/dev/null 2>&1 && return
    # It was there already, or in pip's cache, built on a day when the development files were missing.
    say "python-qpid-proton lacks TLS or SASL; compiling it again"
    pip_install --no-cache-dir --force-reinstall --no-deps --no-binary python-qpid-proton 'python-qpid-proton==0.40.*'
    proton_is_whole || die "python-qpid-proton was built incompletely; see above"
}

find_missing
if [ -n "$MISSING" ] && [ "${PACKAGES:-yes}" = no ]; then
    say "going on without$MISSING (PACKAGES=no)"
elif [ -n "$MISSING" ]; then
    install_packages
fi
check_python
make_venv
install_proton
case "$LEVEL" in
    base) pip_install -e . ;;
    *) pip_install -e '.[dev]' ;;
esac
proton_is_whole
case "$LEVEL" in test|bench|long)
    # rhea, the independent AMQP client of the interop tests; `npm ci` takes what package-lock.json says.
    [ tests/interop/node_modules/.package-lock.json -nt tests/interop/package-lock.json ] \
        || { npm ci --silent --no-fund --no-audit --prefix tests/interop </dev/null && touch tests/interop/node_modules/.package-lock.json; } \
        || say "npm could not install rhea; its interop tests will be skipped"
esac
touch "$VENV/.stamp-base"
case "$LEVEL" in
    test) touch "$VENV/.stamp-test" ;;
    bench) touch "$VENV/.stamp-test" "$VENV/.stamp-bench" ;;
    long) touch "$VENV/.stamp-test" "$VENV/.stamp-bench" "$VENV/.stamp-long" ;;
esac
say "$VENV is ready"
