#!/usr/bin/env bash
# Benchmarks on real parts, on loopback and unix sockets alone; not part of tests/run.sh, since they take minutes and want a quiet
# machine. The table goes to stdout, what happens meanwhile to stderr.
set -euo pipefail
cd "$(dirname "$0")"
export HOME="${HOME:-/root}" DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

usage() {
  cat <<'USAGE'
tests/bench/run.sh routing [--json] [--rounds N] [--seconds N] [--largest HOSTS] [--only logging,map,haproxy,caddy,ours]
  The global nginx at 1 k, 100 k and 1 M hosts beside plain nginx, its static map, HAProxy and Caddy; and beside plain nginx and
  HAProxy that log and tell apps of their visitors, as ours does.
tests/bench/run.sh reloads [--count N]
  1,000 template activations, good and bad, with forced reloads beside, under load and with websockets open, on a whole Appoxy
  below a temporary prefix; fails on the first request, websocket or template that is not as it must be.
tests/bench/run.sh propagation [--json] [--changes N] [--rate PER-SECOND] [--others 0,100000]
  From a commit in Postgres until every worker serves the new target, on an install of its own with so many other routes.
tests/bench/run.sh api [--json] [--apps 100000] [--rate PER-SECOND] [--seconds 30] [--prefix DIR]
  How long the API takes to answer a mix of reads and 5 % writes with so many apps in its database.
tests/bench/run.sh wake [--json] [--apps 500] [--wakes 50] [--seconds 60] [--prefix DIR]
  What so many sleeping apps cost, half of them paused and half stopped, and how long a visit wakes one of either, beside bare
  docker unpause and docker start of containers like theirs. With APPOXY_TEST_KEEP=1 the install stays, for another run by --prefix.
USAGE
}

install_packages() {
  local wanted=("$@") missing=() package
  for package in "${wanted[@]}"; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return
  echo "== installing ${missing[*]}" >&2
  # Installed to be started by the benchmark, not by Debian. A policy that is there already is the machine's own.
  local policy=/usr/sbin/policy-rc.d own=false
  if [[ ! -e $policy ]]; then
    own=true
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null </dev/null
  if command -v systemctl >/dev/null; then
    for package in haproxy caddy; do
      [[ " ${missing[*]} " != *" $package "* ]] || systemctl -q disable "$package" >/dev/null 2>&1 || true
    done
  fi
  $own || return 0
  rm -f "$policy"
  trap - EXIT
}

reloads() {
  local count=1000
  [[ $# == 0 || ($# == 2 && $1 == --count && $2 =~ ^[1-9][0-9]{0,5}$) ]] || { usage >&2; exit 2; }
  [[ $# == 0 ]] || count=$2
  cd ../..
  dotnet build Appoxy.sln -c Release --nologo -v quiet >&2
  APPOXY_TEST_ACTIVATIONS=$count exec dotnet test tests/tests.csproj -c Release --no-build --nologo --filter FullyQualifiedName~ReloadTests \
    --logger "console;verbosity=detailed"
}

case "${1:-}" in
  routing) packages=(nginx libnginx-mod-http-lua lua-resty-core lua-nginx-redis lua-cjson redis-server wrk haproxy caddy) ;;
  propagation | reloads | api) packages=() ;; # provision.sh brings its own
  wake) packages=(busybox-static) ;;
  -h | --help | "") usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac
[[ $EUID -eq 0 ]] || { echo "tests/bench/run.sh: must run as root: it starts nginx with workers of another user" >&2; exit 1; }
if [[ $1 == reloads ]]; then
  shift
  reloads "$@"
fi
install_packages "${packages[@]}"
benchmark=$1
shift
exec dotnet run --file "$benchmark" -- --repository "$(cd ../.. && pwd)" "$@"
