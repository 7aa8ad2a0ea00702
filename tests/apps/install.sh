#!/usr/bin/env bash
# Installs what cases/ runs: Debian packages (as root, without starting a service), and into $APPS_HOME what
# comes from PyPI, npm and crates.io. Called by run.sh --install.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
packages=(
    curl wget netcat-openbsd libnss3-tools procps util-linux jq gcc gcc-multilib libc6-dev make musl-tools gdb strace file
    python3 python3-venv nodejs php-cli php-fpm ruby ruby-webrick puma default-jdk-headless golang-go
    nginx apache2 haproxy caddy etcd-server etcd-client nats-server prometheus hugo
    redis-server redis-tools postgresql postgresql-client mariadb-server memcached
    rabbitmq-server openssh-server openssh-client dnsmasq-base dnsutils git rsync chromium
    sudo libfaketime faketime libjemalloc2 libtcmalloc-minimal4
)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
# Node may be there from elsewhere.
if command -v node >/dev/null; then missing=($(printf '%s\n' "${missing[@]}" | grep -vx nodejs || true)); fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then echo "$0: as root: apt-get install ${missing[*]}" >&2; exit 1; fi
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        # Services that Debian starts on installation would hold the ports.
        printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy
        trap 'rm -f $policy' EXIT
    fi
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi
mkdir -p "$APPS_HOME/node" "$APPS_HOME/rust"
[ -x "$APPS_HOME/venv/bin/pip" ] || python3 -m venv "$APPS_HOME/venv"
"$APPS_HOME/venv/bin/pip" install -q flask fastapi 'uvicorn[standard]' gunicorn gevent aiohttp django \
    jupyter-server ipykernel python-lsp-server websockets
if command -v npm >/dev/null; then
    cd "$APPS_HOME/node"
    [ -f package.json ] || echo '{"name":"apps","private":true}' >package.json
    npm install --no-audit --no-fund express vite ws next react react-dom deno bun esbuild playwright-core \
        @playwright/test pg redis detect-port get-port portfinder
fi
if command -v cargo >/dev/null; then
    cp "$here"/servers/rust/* "$APPS_HOME/rust/"
    (cd "$APPS_HOME/rust" && CARGO_TARGET_DIR=$APPS_HOME/rust cargo build --release -q
        RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR=$APPS_HOME/rust-static cargo build --release -q \
            --target "$(rustc -vV | sed -n 's/^host: //p')")
fi
