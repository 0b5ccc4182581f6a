#!/usr/bin/env bash
# Runs all tests on real parts: installs what they need, checks scripts and Lua, and lets the acceptance tests set up a whole
# Appoxy below a temporary prefix. The last line is "N passed, N failed". Arguments go to dotnet test, as --filter.
set -euo pipefail
cd "$(dirname "$0")/.."
export HOME="${HOME:-/root}" DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

say() { printf '== %s\n' "$*"; }

install_packages() {
  local wanted=(debootstrap shellcheck lua-check luajit2 git curl jq procps redis-tools openssh-server) missing=() package
  for package in "${wanted[@]}"; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return
  say "installing ${missing[*]}"
  # The tests start an sshd of their own; the machine gets none by this, now or at its next boot.
  # shellcheck source=provision/packages.sh
  source provision/packages.sh
  hold_services
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  release_services
  [[ " ${missing[*]} " != *" openssh-server "* ]] || ! command -v systemctl >/dev/null || systemctl -q disable ssh >/dev/null 2>&1 || true
}

passed=0
failed=0
check() { # name command…
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED %s\n' "$name"
  fi
}

[[ $EUID -eq 0 ]] || { echo "tests/run.sh: must run as root: it starts Docker, nginx, Postgres and Redis" >&2; exit 1; }
install_packages

say "checking scripts and Lua"
check shellcheck shellcheck -x provision.sh provision/*.sh tests/run.sh tests/bench/run.sh tests/pack/pack .ci/run
check luacheck luacheck --quiet --config lua/.luacheckrc lua tests/lua

say "building"
dotnet build Appoxy.sln -c Release --nologo -v quiet

say "testing"
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
dotnet test tests/tests.csproj -c Release --no-build --nologo --logger "trx;LogFileName=results.trx" \
  --logger "console;verbosity=normal" --results-directory "$results" "$@" || true
if [[ -s $results/results.trx ]]; then
  counters=$(grep -o '<Counters [^>]*>' "$results/results.trx")
  count() { grep -o " $1=\"[0-9]*\"" <<<"$counters" | grep -o '[0-9]*'; }
  passed=$((passed + $(count passed)))
  # Whatever was run and did not pass: failed, timed out, or cut off. What was skipped says so itself and why.
  failed=$((failed + $(count executed) - $(count passed)))
  # Once more at the end, where whoever reads only the last lines finds them.
  grep -o '<UnitTestResult [^>]*outcome="Failed"' "$results/results.trx" | sed -E 's/.* testName="([^"]*)".*/FAILED \1/' || true
else
  echo "FAILED dotnet test: it left no results"
  failed=$((failed + 1))
fi

echo "$passed passed, $failed failed"
((failed == 0))
