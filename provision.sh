#!/usr/bin/env bash
# Makes a Debian 12 or 13 machine a whole Appoxy, and looks after it from then on. Each step is safe to run twice.
set -Eeuo pipefail
umask 022
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
SOURCE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
declare -A given=() conf=() saved=()
P='' VERB=provision DRY=no DEBIAN_NGINX=/usr/sbin/nginx
# shellcheck disable=SC2034 # backup.sh uses it
CALLED_FROM=$PWD
for part in packages publish supervisor stores daemons cluster sample backup; do
  # shellcheck source=/dev/null
  . "$SOURCE/provision/$part.sh"
done

usage() {
  cat <<'EOF'
usage: provision.sh [option…]                                   set up this machine, or bring it up to date
       provision.sh [--prefix DIR] --stop | --start | --status | --uninstall
       provision.sh [--prefix DIR] --backup FILE [--volumes] [--images] [--passphrase-file F]
       provision.sh [--prefix DIR] --restore FILE [--force] [--passphrase-file F] [option…]

  --prefix DIR        keep everything but Debian's packages below DIR; several copies can share a machine
  --http-port N       where visitors come in (80)
  --https-port N      kept for TLS (443)
  --console-port N    where routerd listens on 127.0.0.1 (8700)
  --domain D          apps are served at NAME.D, the console at console.D (localhost)
  --name S            this machine's name as a droid-server (ds1)
  --trusted-proxies L load balancers before the global nginx, as 10.0.0.0/8,192.0.2.7, or none (none)
  --role R            all (all of it on one machine), control (all but droids), droid-server or proxy (all)
  --join TOKEN        of a droid-server or proxy: what `appoxy servers join-token` printed, or a file that holds it
  --address A         where other machines reach this one (the address that it goes out by)
  --cluster-port N    of all and control: lets other machines join, at this port (control: 8443; all: none)
  --nginx-binary F    an nginx with Lua, such as OpenResty's, in place of Debian's
  --no-sample         don't deploy the sample app hello (--sample: do)
  --dry-run           say what would be done

Options that were given once are remembered. --stop stops the droids too, --start brings back what ran,
--status exits 1 when something is down, --uninstall removes all of it but Debian's packages.
--backup saves all that is known and kept here in one file, with --volumes what apps keep, with --images what was built;
--restore makes a fresh machine the same again, or with --force one that has other apps. See docs/backup.md.
EOF
}

say() { printf '==> %s\n' "$*"; }
die() { trap - ERR; printf 'provision.sh: %s\n' "$*" >&2; exit 1; }
bad_usage() { printf 'provision.sh: %s (see --help)\n' "$*" >&2; exit 2; }
trap 'die "${BASH_SOURCE[0]##*/}, line $LINENO: ${BASH_COMMAND%%[[:space:]]*} failed"' ERR

# --- options, remembered settings, checks ----------------------------------------------------------------------------

parse() {
  while (($#)); do
    [[ $1 != --*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
    case $1 in
      --prefix | --http-port | --https-port | --console-port | --domain | --name | --trusted-proxies | --nginx-binary | --role | --join | --address | --cluster-port)
        (($# > 1)) || bad_usage "$1 needs a value"
        given[${1#--}]=$2
        [[ $1 != --domain ]] || given[domain]=${2,,}
        shift ;;
      --sample) given[sample]=yes ;;
      --no-sample) given[sample]=no ;;
      --dry-run) DRY=yes ;;
      --stop | --start | --status | --uninstall | --backup | --restore)
        [[ $VERB == provision ]] || bad_usage "give one of --stop, --start, --status, --uninstall, --backup and --restore"
        VERB=${1#--}
        [[ $VERB != backup && $VERB != restore ]] || { (($# > 1)) || bad_usage "$1 needs a file"; saved[file]=$2; shift; } ;;
      --volumes | --images | --force) saved[${1#--}]=yes ;;
      --passphrase-file)
        (($# > 1)) || bad_usage "$1 needs a value"
        saved[passphrase-file]=$(realpath -m "$2")
        [[ -s $2 ]] || bad_usage "--passphrase-file $2: there is nothing in it"
        shift ;;
      -h | --help) usage; exit 0 ;;
      *) bad_usage "what is '$1'?" ;;
    esac
    shift
  done
  if [[ -v given[prefix] ]]; then
    P=${given[prefix]%/}
    check_prefix
    unset 'given[prefix]'
  fi
  [[ $VERB == provision || $VERB == restore && $DRY == no || ${#given[@]} -eq 0 && $DRY == no ]] || bad_usage "--$VERB goes with --prefix alone"
  [[ $VERB == backup || $VERB == restore || ${#saved[@]} -eq 0 ]] || bad_usage "--${!saved[*]} goes with --backup or --restore"
}

# shellcheck disable=SC2034 # the parts use them
paths() {
  ETC=$P/etc/appoxy LIB=$P/usr/lib/appoxy SHARE=$P/usr/share/appoxy STATE=$P/var/lib/appoxy
  RUN=$P/run/appoxy LOG=$P/var/log/appoxy CACHE=$P/var/cache/appoxy
  SERVICES=$STATE/services CLI=$P/bin/appoxy
  [[ -n $P ]] || CLI=/usr/local/bin/appoxy
  ID=$(printf %s "$P" | sha256sum | cut -c1-8)
  BRIDGE=appoxy-$ID
  SUPERVISOR=runit
  [[ -n $P || ! -d /run/systemd/system ]] || SUPERVISOR=systemd
}

check_prefix() {
  [[ $P == /* ]] || bad_usage "--prefix ${given[prefix]}: give an absolute path, and not /"
  [[ $P =~ ^(/[A-Za-z0-9._-]+)+$ && ! $P/ =~ /\.\.?/ ]] ||
    bad_usage "--prefix $P: only letters, digits, '.', '_' and '-' between single slashes, and no '.' or '..'"
  # runc refuses a root below a link.
  [[ $(realpath -m "$P") == "$P" ]] || bad_usage "--prefix $P: it passes through a link; give $(realpath -m "$P")"
  local longest=$P/run/appoxy/docker/containerd/containerd.sock.ttrpc
  ((${#longest} < 108)) || bad_usage "--prefix $P: too long by $((${#longest} - 107)), as a unix socket's path ends at 107 characters"
}

check_machine() {
  ((EUID == 0)) || die "run this as root, as in: sudo ./provision.sh"
  local system
  # shellcheck source=/dev/null
  system=$(. /etc/os-release 2>/dev/null && printf '%s' "${ID:-} ${VERSION_ID:-}") || true
  [[ $system =~ ^debian\ 1[23]$ ]] || die "this machine runs ${system:-an unknown system}; Appoxy needs Debian 12 or 13"
  # shellcheck disable=SC2034 # packages.sh uses it
  DEBIAN=${system#debian }
}

# Settings, weakest first: defaults, what the last run kept, what this run was given.
load_settings() {
  conf=([http-port]=80 [https-port]=443 [console-port]=8700 [domain]=localhost [name]=ds1 [trusted-proxies]=none [nginx-binary]="$DEBIAN_NGINX" [sample]=yes
    [role]=all [address]='' [cluster-port]='' [control]='')
  local key value
  # It is used up at once, and secret until then.
  JOIN=${given[join]:-}
  unset 'given[join]'
  if [[ -r $ETC/provision.conf ]]; then
    while IFS='=' read -r key value; do [[ -z $key ]] || conf[$key]=$value; done <"$ETC/provision.conf"
    # Placements and hostnames in the database hold these.
    [[ ! -e $ETC/install.json ]] || for key in role name domain; do
      [[ ${given[$key]:-${conf[$key]}} == "${conf[$key]}" ]] ||
        bad_usage "--$key: it is ${conf[$key]} here, and can't change after the first run"
    done
  fi
  for key in "${!given[@]}"; do conf[$key]=${given[$key]}; done
  [[ ${conf[role]} != control || -n ${conf[cluster-port]} ]] || conf[cluster-port]=8443
  if ! has droidd || ! has routerd; then conf[sample]=no; fi
  # shellcheck disable=SC2034 # the parts use it
  API=http://127.0.0.1:${conf[console-port]}
}

save_settings() {
  local key
  put - "$ETC/provision.conf" 644 < <(for key in $(printf '%s\n' "${!conf[@]}" | sort); do printf '%s=%s\n' "$key" "${conf[$key]}"; done)
}

check_settings() {
  local key label='[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'
  for key in http-port https-port console-port; do
    [[ ${conf[$key]} =~ ^[1-9][0-9]{0,4}$ && ${conf[$key]} -le 65535 ]] || bad_usage "--$key ${conf[$key]}: give a port from 1 to 65535"
  done
  [[ $(printf '%s\n' "${conf[http-port]}" "${conf[https-port]}" "${conf[console-port]}" | sort -u | wc -l) == 3 ]] ||
    bad_usage "--http-port, --https-port and --console-port must differ"
  [[ ${conf[domain]} == localhost || ${conf[domain]} =~ ^($label\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$ && ${#conf[domain]} -le 200 ]] ||
    bad_usage "--domain ${conf[domain]}: give localhost or a DNS name such as apps.example.com"
  [[ ${conf[name]} =~ ^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$ && ${conf[name]} != console ]] ||
    bad_usage "--name ${conf[name]}: give a short lower-case name such as ds1"
  [[ ${conf[trusted-proxies]} == none || ${conf[trusted-proxies]} =~ ^[0-9a-f.:]+(/[0-9]+)?(,[0-9a-f.:]+(/[0-9]+)?)*$ ]] ||
    bad_usage "--trusted-proxies ${conf[trusted-proxies]}: give networks such as 10.0.0.0/8,192.0.2.7, or none"
  [[ ${conf[role]} =~ ^(all|control|droid-server|proxy)$ ]] || bad_usage "--role ${conf[role]}: give all, control, droid-server or proxy"
  [[ -z ${conf[address]} || ${conf[address]} =~ ^[0-9a-f.:]+$ || ${conf[address]} =~ ^($label\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$ ]] ||
    bad_usage "--address ${conf[address]}: give an IP address or a DNS name"
  [[ -z ${conf[cluster-port]} || ${conf[cluster-port]} =~ ^[1-9][0-9]{0,4}$ && ${conf[cluster-port]} -le 65535 ]] ||
    bad_usage "--cluster-port ${conf[cluster-port]}: give a port from 1 to 65535"
  if joins; then
    [[ -n $JOIN || -s $STATE/cluster/node.pem ]] || bad_usage "--role ${conf[role]}: give --join TOKEN, made by \`appoxy servers join-token\` on the control machine"
    [[ -z ${conf[cluster-port]} ]] || bad_usage "--cluster-port goes with --role all or control"
  else
    [[ -z $JOIN ]] || bad_usage "--join goes with --role droid-server or proxy"
  fi
  [[ ${conf[nginx-binary]} == "$DEBIAN_NGINX" ]] || has_lua "${conf[nginx-binary]}" ||
    bad_usage "--nginx-binary ${conf[nginx-binary]}: no nginx with Lua is there"
}

has_lua() { [[ $1 =~ ^(/[A-Za-z0-9._-]+)+$ && -x $1 && $("$1" -V 2>&1) == *lua* ]]; }

# Each port must be free, or held by the service of this very install that it is for.
check_ports() {
  command -v ss >/dev/null || return 0
  local key
  if has routerd; then
    check_port "${conf[http-port]}" global-nginx --http-port
    check_port "${conf[https-port]}" global-nginx --https-port
    check_port "${conf[console-port]}" routerd --console-port
    [[ -z ${conf[cluster-port]} ]] || check_port "${conf[cluster-port]}" routerd --cluster-port
  fi
  if [[ ${conf[role]} == droid-server ]]; then
    check_port 8444 droidd "droidd's port"
    check_port 8445 local-nginx "the local nginx's port"
  fi
  for key in postgres redis; do [[ ! -v conf[$key-port] ]] || check_port "${conf[$key-port]}" $key "$key's port"; done
}

check_port() {
  local lines pid holder
  lines=$(ss -Hltnp "sport = :$1")
  pid=$(service_pid "$2")
  pid=${pid:-$(orphan "$2")}
  [[ -z $lines || -n $pid && $lines == *"pid=$pid,"* ]] && return
  holder=$(sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (pid \2)/p;q' <<<"$lines")
  die "port $1 ($3) is in use by ${holder:-another program}"
}

# Whether this machine's role has a part.
has() {
  case ${conf[role]}:$1 in
    all:* | control:postgres | control:redis | control:routerd | control:global-nginx | droid-server:docker | droid-server:droidd | droid-server:local-nginx) ;;
    proxy:redis | proxy:routerd | proxy:global-nginx) ;;
    *) return 1 ;;
  esac
}

# Whether another machine is in control of this one.
joins() { [[ ${conf[role]} == @(droid-server|proxy) ]]; }

clustered() { joins || [[ -n ${conf[cluster-port]} ]]; }

# The address by which this machine goes out, unless it was told which one others know.
own_address() {
  [[ -z ${conf[address]} ]] || return 0
  conf[address]=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p') || true
  [[ -n ${conf[address]} ]] || die "this machine has no address that others could know; give --address"
}

free_port() {
  local port
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 10000))
    [[ -z $(ss -Hltn "sport = :$port") && " ${conf[*]} " != *" $port "* ]] && { echo "$port"; return; }
  done
  return 1
}

# --- what every part uses --------------------------------------------------------------------------------------------

# put SERVICE PATH MODE: makes stdin the file at PATH, atomically; a change is marked, so that SERVICE gets restarted ('-' for none).
put() {
  (umask 077; cat >"$2.new")
  chmod "$3" "$2.new"
  if [[ -f $2 && $(stat -c %a "$2") == "$3" ]] && cmp -s "$2.new" "$2"; then rm "$2.new"; return; fi
  mv -f "$2.new" "$2"
  mark "$1"
}

# The mark is a file, so that a run that is cut short leaves the restart to the next one.
mark() { [[ $1 == - ]] || : >"$STATE/changed/$1"; }

make_folders() {
  [[ -z $P ]] || { mkdir -p "$P"; chmod a+x "$P"; }
  install -d "$ETC" "$ETC/templates" "$LIB/versions" "$SHARE" "$STATE/changed" "$STATE"/nginx/{global,local} "$SERVICES" "$(dirname "$CLI")"
  install -d -m 700 "$STATE/droids" "$STATE/home" "$CACHE"
  # nginx's workers open their logs anew when they are rotated.
  install -d -m 750 -g www-data "$LOG"
  # Only root and nginx's workers may pass: whatever lies within needs no password of its own.
  install -d -m 750 -g www-data "$RUN"
}

url() { if [[ ${conf[http-port]} == 80 ]]; then echo "http://$1"; else echo "http://$1:${conf[http-port]}"; fi; }

secret_file() { [[ -s $1 ]] || (umask 077; openssl rand -hex 24 >"$1.new"; mv "$1.new" "$1"); }

as() { setpriv --reuid="$1" --regid="$1" --groups="$1,www-data" -- "${@:2}"; }

# --- verbs -----------------------------------------------------------------------------------------------------------

# One run at a time for an install.
lock() {
  mkdir -p /run/lock
  exec 9>"/run/lock/appoxy-$ID"
  flock -n 9 || die "another provision.sh is at work on this install"
}

plan() {
  local missing
  [[ -z $P ]] || ! has docker || conf[docker]=own
  missing=$(missing_packages | tr '\n' ' ')
  cat <<EOF
would install Debian packages: ${missing:-none, all are here}
would publish routerd, droidd and the CLI to $LIB, where their sources changed
would keep settings in $ETC, data in $STATE, logs in $LOG, sockets in $RUN
would run droids on $(if [[ -n $P ]]; then echo "a dockerd of its own"; else echo "this machine's Docker"; fi)
would have $SUPERVISOR keep up: $(all_services | tr '\n' ' ')
would serve $(url "console.${conf[domain]}") and $(url "NAME.${conf[domain]}"), with routerd on 127.0.0.1:${conf[console-port]}
EOF
}

provision() {
  local first=no
  check_settings
  check_ports
  if [[ $DRY == yes ]]; then plan; return; fi
  lock
  make_folders
  install_packages
  check_ports
  local key
  for key in postgres-port redis-port tunnel-postgres tunnel-redis tunnel-api; do
    case $key in
      tunnel-*) [[ ${conf[role]} == proxy ]] || continue ;;
      *) has ${key%-port} || continue ;;
    esac
    [[ -v conf[$key] ]] || conf[$key]=$(free_port)
  done
  ! clustered || own_address
  ! has docker || choose_docker
  save_settings
  install_dotnet
  ! has postgres || make_cluster
  write_services
  copy_shared
  start_supervisor
  start_stores
  ! has postgres || make_database
  ! has docker || make_network
  save_settings
  ! has routerd || publish routerd
  ! has droidd || publish droidd
  if joins; then
    join
    save_settings
  else
    publish cli
    write_cli
  fi
  write_settings
  if has postgres; then
    [[ -e $ETC/admin.password ]] || first=yes
    first_admin
  fi
  start_daemons
  write_install
  prune_versions
  if joins; then
    say "${conf[name]} has joined ${conf[control]} as a ${conf[role]}, at ${conf[address]}"
    return
  fi
  deploy_sample
  [[ ${conf[sample]} == no ]] || say "the sample:  $(url "hello.${conf[domain]}")"
  say "the console: $(url "console.${conf[domain]}"), as admin@${conf[domain]}; the first password is in $ETC/admin.password"
  [[ $first == no ]] || say "the first password: $(<"$ETC/admin.password")"
}

start() {
  lock
  install -d -m 750 -g www-data "$RUN"
  start_supervisor
  start_stores
  start_daemons
  write_install
}

status() {
  local name pid code=0
  printf '%-14s %-6s %s\n' SERVICE STATE PID
  for name in $(all_services) $([[ ${conf[docker]:-own} == own ]] || echo docker); do
    pid=$(service_pid "$name")
    [[ -n $pid ]] || code=1
    printf '%-14s %-6s %s\n' "$name" "$([[ -n $pid ]] && echo up || echo down)" "${pid:--}"
  done
  if ! has global-nginx; then :
  elif site_answers "console.${conf[domain]}" 2>/dev/null; then printf '%-14s %-6s %s\n' console up "$(url "console.${conf[domain]}")"
  else printf '%-14s %-6s %s\n' console down "$(url "console.${conf[domain]}")"; code=1; fi
  [[ ! -e $ETC/install.json ]] || write_install
  exit $code
}

# The droids' containers, by id; of a dockerd of our own all, as a build may be among them.
droids() {
  local filter=()
  [[ -n $P ]] || filter=(--filter label=appoxy.uid)
  has docker || return 0
  timeout 20 docker -H "$DOCKER_HOST" ps -q "${filter[@]}" "$@" 2>/dev/null || true
}

stop() {
  lock
  local name containers
  for name in global-nginx local-nginx droidd routerd; do ! has $name || down $name; done
  mapfile -t containers < <(droids)
  if ((${#containers[@]})); then
    say "stopping ${#containers[@]} droids"
    timeout 120 docker -H "$DOCKER_HOST" stop -t 3 "${containers[@]}" >/dev/null || true
  fi
  for name in docker redis postgres; do ! has $name || down $name; done
  stop_supervisor
}

# What is left where dockerd could not clean up after itself: processes of containers, the bridge, its rules, mounts.
remove_leftovers() {
  local bridge table rule mount folder tool chain
  if [[ -n $P ]]; then
    for folder in "$STATE"/docker/containers/*/; do
      folder=$(basename "$folder")
      { cat /sys/fs/cgroup/{,*/}{docker/"$folder",system.slice/docker-"$folder".scope}/cgroup.procs | sort -u | xargs -r kill -KILL; } \
        2>/dev/null || true
    done
  fi
  for bridge in "$@"; do
    ip link delete "$bridge" 2>/dev/null || true
    # Docker's rules and droidd's chains, in whichever table they are.
    for tool in iptables iptables-legacy ip6tables ip6tables-legacy; do
      command -v $tool >/dev/null || continue
      # Only to ask for them would make the older tables.
      [[ $tool != *-legacy || -s /proc/net/ip_tables_names || -s /proc/net/ip6_tables_names ]] || continue
      for table in filter nat; do
        while IFS= read -r rule; do
          # shellcheck disable=SC2086 # a rule is many words
          $tool -w 5 -t $table -D ${rule#-A } 2>/dev/null || true
        done < <($tool -w 5 -t $table -S 2>/dev/null | grep -- "^-A .*$bridge" || true)
      done
      for chain in "$bridge.host" "$bridge.out"; do
        $tool -w 5 -X "$chain" 2>/dev/null || true
      done
    done
  done
  while IFS= read -r mount; do umount -l "$mount" 2>/dev/null || true; done < <(
    awk -v run="$RUN/" -v state="$STATE/" 'index($5, run) == 1 || index($5, state) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
}

uninstall() {
  if [[ ! -d $ETC && ! -d $STATE && ! -d $RUN ]]; then say "nothing is installed below ${P:-/}"; return; fi
  lock
  local name containers=() bridges=("$BRIDGE") folder
  for name in global-nginx local-nginx droidd routerd; do ! has $name || down $name; done
  if has docker && [[ ${conf[docker]} == own && -e $SERVICES/docker/run ]] && command -v dockerd >/dev/null; then
    (start_supervisor && up docker && wait_for Docker 30 "$(log_of docker)" docker_answers) || true
  fi
  mapfile -t containers < <(droids -a)
  say "removing ${#containers[@]} droids and their networks"
  ((${#containers[@]} == 0)) || timeout 120 docker -H "$DOCKER_HOST" rm -f "${containers[@]}" >/dev/null || true
  # A bridge that droidd let Docker name carries the start of the network's id.
  if has docker; then
    name=$(timeout 20 docker -H "$DOCKER_HOST" network inspect -f '{{.Id}}' droid-build 2>/dev/null) || true
    [[ -z $name ]] || bridges+=("br-${name:0:12}")
    timeout 30 docker -H "$DOCKER_HOST" network rm droid-net droid-build >/dev/null 2>&1 || true
  fi
  [[ -n $P ]] || ! has docker || timeout 120 docker -H "$DOCKER_HOST" image prune -af --filter label=appoxy.uid >/dev/null 2>&1 || true
  for name in docker redis postgres; do ! has $name || down $name; done
  stop_supervisor
  remove_leftovers "${bridges[@]}"
  say "removing the files"
  if [[ $SUPERVISOR == systemd ]]; then
    for name in $(all_services); do
      systemctl -q disable "appoxy-$name.service" 2>/dev/null || true
      rm -f "$UNITS/appoxy-$name.service"
    done
    systemctl daemon-reload
  fi
  rm -rf --one-file-system "$ETC" "$LIB" "$SHARE" "$STATE" "$RUN" "$LOG" "$CACHE"
  rm -f "$CLI" "/run/lock/appoxy-$ID"
  [[ -z $P ]] || for folder in etc usr/lib usr/share usr var/lib var/log var/cache var run bin ''; do
    rmdir "$P/$folder" 2>/dev/null || true
  done
}

main() {
  parse "$@"
  paths
  check_machine
  load_settings
  cd /
  if [[ $VERB != provision ]]; then
    [[ -e $ETC/provision.conf || $VERB == uninstall || $VERB == restore ]] || die "nothing is installed below ${P:-/}"
    if has docker; then
      conf[docker]=${conf[docker]:-$([[ -n $P ]] && echo own || echo machine)}
      choose_docker
    fi
  fi
  "$VERB"
}

main "$@"
