# shellcheck shell=bash disable=SC2154 # provision.sh sets conf and the paths
# Debian's packages and the .NET SDK: only what is missing, and no daemon of theirs gets started.

POLICY=/usr/sbin/policy-rc.d

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

missing_packages() {
  local want=(ca-certificates curl git iproute2 iptables jq openssh-client openssl postgresql procps redis-server tzdata) package
  command -v dockerd >/dev/null && command -v docker >/dev/null || want+=(docker.io)
  [[ $DEBIAN == 12 ]] || command -v docker >/dev/null || want+=(docker-cli)
  [[ ${conf[nginx-binary]} != "$DEBIAN_NGINX" ]] || want+=(nginx libnginx-mod-http-lua lua-cjson lua-nginx-redis lua-resty-core)
  [[ $SUPERVISOR == systemd ]] || want+=(runit)
  [[ ${conf[sample]} == no ]] || installed busybox || want+=(busybox-static)
  [[ ! -r /sys/module/apparmor/parameters/enabled || $(</sys/module/apparmor/parameters/enabled) != Y ]] || want+=(apparmor)
  for package in "${want[@]}"; do installed "$package" || echo "$package"; done
}

apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Acquire::http::Timeout=30 "$@" \
    </dev/null >>"$LOG/packages.log" 2>&1 && return
  grep -E '^(E|W):' "$LOG/packages.log" | tail -n 3 >&2 || true
  die "apt-get $1 failed; see $LOG/packages.log"
}

# Keeps Debian from starting its own nginx, Redis and Postgres on the ports that Appoxy is about to use.
hold_services() {
  release_services
  [[ ! -e $POLICY ]] || mv "$POLICY" "$POLICY.appoxy-kept"
  trap release_services EXIT
  printf '#!/bin/sh\n# provision.sh: for the moment\nexit 101\n' >"$POLICY"
  chmod 755 "$POLICY"
}

release_services() {
  if grep -qs '^# provision.sh: for the moment' "$POLICY"; then rm "$POLICY"; fi
  if [[ -e $POLICY.appoxy-kept ]]; then mv "$POLICY.appoxy-kept" "$POLICY"; fi
}

install_packages() {
  local missing unit
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  say "installing Debian packages: ${missing[*]}"
  hold_services
  apt update
  apt install --no-install-recommends --no-remove "${missing[@]}"
  release_services
  # Nor may they start at the next boot. Those that were here before stay as they were.
  for unit in nginx redis-server postgresql docker.io; do
    [[ " ${missing[*]} " == *" $unit "* ]] || continue
    if [[ $unit == docker.io ]]; then
      [[ -n $P ]] || continue
      unit=docker
    fi
    if command -v systemctl >/dev/null; then systemctl -q disable "$unit" >/dev/null 2>&1 || true
    elif command -v update-rc.d >/dev/null; then update-rc.d "$unit" disable >/dev/null 2>&1 || true; fi
  done
}

install_dotnet() {
  if [[ $'\n'$(dotnet --list-sdks 2>/dev/null) != *$'\n10.'* ]]; then fetch_dotnet; fi
  # shellcheck disable=SC2034 # daemons.sh and publish.sh use it
  DOTNET=$(dirname "$(readlink -f "$(command -v dotnet)")")
}

fetch_dotnet() {
  local feed=https://packages.microsoft.com/config/debian/$DEBIAN/packages-microsoft-prod.deb
  say "installing the .NET 10 SDK from Microsoft's Debian feed"
  curl -fsSL --retry 3 --connect-timeout 15 --max-time 120 -o "$CACHE/microsoft.deb" "$feed" ||
    die "can't fetch $feed; put the .NET 10 SDK's 'dotnet' on PATH (https://dot.net) and run this again"
  dpkg -i "$CACHE/microsoft.deb" >>"$LOG/packages.log" 2>&1
  apt update
  apt install --no-install-recommends --no-remove dotnet-sdk-10.0
}
