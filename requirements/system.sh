#!/bin/sh
# The commands that tests and demo run, a library, and Debian's packages that have them. As root: installs those that
# are missing. Otherwise: says which they are, and goes on (what needs them then says so itself).
set -eu
PATH=$PATH:/usr/sbin:/sbin
PYTHON=${PYTHON:-python3}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "softlan needs Python 3.11 or later and $PYTHON is older or missing: name another one, as in: make PYTHON=python3.12" >&2
    exit 1
}

missing=
# A virtual environment that works needs nothing more of the system's Python.
.venv/bin/python -c 'import pip' 2>/dev/null || "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing=python3-venv
while read -r command package; do
    command -v "$command" >/dev/null || missing="$missing $package"
done <<LIST
ip iproute2
ping iputils-ping
dnsmasq dnsmasq-base
udhcpc udhcpc
radvd radvd
ethtool ethtool
iperf3 iperf3
tcpdump tcpdump
nft nftables
faketime faketime
unshare util-linux
LIST
# What relay, gateway and player take their memory from; it has no command.
ldconfig -p 2>/dev/null | grep -q libtcmalloc_minimal.so.4 || missing="$missing libtcmalloc-minimal4"
missing=${missing# }

# The tests' ACME server is in Debian's caddy. It is unpacked into build/, not installed: the package starts a web
# server. That needs no root; and where it does not work out, the tests of it say so.
get_caddy() {
    command -v caddy >/dev/null && return
    [ -x build/caddy/usr/bin/caddy ] && return
    command -v apt-get >/dev/null || return 0
    echo "unpacking caddy into build/caddy"
    mkdir -p build/caddy
    if [ "$(id -u)" = 0 ] && [ -z "$(apt-cache madison caddy)" ]; then
        apt-get -qq -o Acquire::Retries=3 update || :
    fi
    (
        cd build/caddy && rm -f caddy_*.deb &&
            apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)" download caddy &&
            dpkg-deb --extract caddy_*.deb . && rm caddy_*.deb
    ) || echo "caddy could not be had: tests that need an ACME server will say so" >&2
}

[ -n "$missing" ] || { get_caddy; exit 0; }

install="apt-get install --no-install-recommends $missing"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing here, and tests and demo need it: $missing. As root: $install" >&2
    case $missing in python3-venv*) exit 1 ;; esac
    get_caddy
    exit 0
fi
echo "installing: $missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o Acquire::Retries=3 update
apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 --no-install-recommends install -y $missing >/dev/null
.venv/bin/python -c 'import pip' 2>/dev/null || "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || {
    echo "$PYTHON cannot make a virtual environment even with python3-venv: use Debian's own, make PYTHON=/usr/bin/python3" >&2
    exit 1
}
get_caddy
