# shellcheck shell=bash disable=SC2154 # provision.sh sets conf and the paths
# Postgres, Redis and Docker, each of our own where that is possible.

SUBNETS=(10.{210..249}.0.0/16 172.{20..31}.0.0/16)

make_cluster() {
  local data=$STATE/postgres bin
  secret_file "$ETC/postgres.password"
  [[ ! -s $data/PG_VERSION ]] || return 0
  say "making a Postgres cluster in $data"
  as postgres test -x "$STATE" || die "user postgres can't reach $STATE: let others pass each folder above it (chmod o+x)"
  bin=$(find /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
  rm -rf "$data.new"
  install -d -m 700 -o postgres -g postgres "$data.new"
  as postgres "$bin" -D "$data.new" --encoding=UTF8 --locale=C.UTF-8 --data-checksums --auth-local=peer --auth-host=scram-sha-256 \
    >"$LOG/initdb.log" 2>&1 || die "initdb failed; see $LOG/initdb.log"
  printf 'local all postgres peer\nhost all all 127.0.0.1/32 scram-sha-256\n' >"$data.new/pg_hba.conf"
  mv -T "$data.new" "$data"
}

database_answers() {
  PGPASSWORD=$(<"$ETC/postgres.password") PGCONNECT_TIMEOUT=5 \
    psql -Xqw -h 127.0.0.1 -p "${conf[postgres-port]}" -U appoxy -d appoxy -c 'select 1' >/dev/null 2>&1
}

make_database() {
  database_answers && return
  say "making the database"
  as postgres psql -Xqw -v ON_ERROR_STOP=1 -h "$RUN/postgres" -p "${conf[postgres-port]}" -d postgres >/dev/null <<EOF
select 'create role appoxy login' where not exists (select from pg_roles where rolname = 'appoxy') \gexec
alter role appoxy password '$(<"$ETC/postgres.password")';
select 'create database appoxy owner appoxy' where not exists (select from pg_database where datname = 'appoxy') \gexec
EOF
  database_answers
}

postgres_service() {
  service postgres INT "" <<EOF
install -d -m 700 -o postgres -g postgres $RUN/postgres
exec setpriv --reuid=postgres --regid=postgres --groups=postgres,www-data \\
  "/usr/lib/postgresql/\$(cat $STATE/postgres/PG_VERSION)/bin/postgres" -D $STATE/postgres -p ${conf[postgres-port]} \\
  -c listen_addresses=127.0.0.1 -c unix_socket_directories=$RUN/postgres
EOF
}

# Redis keeps nothing on disk: routerd fills it anew from Postgres, and an old copy would pass for the present.
redis_service() {
  install -d -m 750 -o redis -g redis "$STATE/redis"
  put redis "$ETC/redis.conf" 644 <<EOF
bind 127.0.0.1
port ${conf[redis-port]}
unixsocket $RUN/redis/redis.sock
unixsocketperm 777
dir $STATE/redis
save ""
appendonly no
daemonize no
supervised no
maxmemory-policy noeviction
$([[ ${conf[role]} != proxy ]] || echo "# By a tunnel that routerd keeps; while that is away, what is known is served.
replicaof 127.0.0.1 ${conf[tunnel-redis]}
replica-serve-stale-data yes")
EOF
  service redis TERM "" <<EOF
install -d -m 755 -o redis -g redis $RUN/redis
ln -sfn redis/redis.sock $RUN/redis.sock
exec setpriv --reuid=redis --regid=redis --groups=redis,www-data redis-server $ETC/redis.conf
EOF
}

docker_answers() { timeout 20 docker -H "$DOCKER_HOST" info >/dev/null 2>&1; }

# Below a prefix always a dockerd of its own; else the machine's, which is only supervised here where nobody else does.
choose_docker() {
  DOCKER_HOST=unix://$RUN/docker.sock
  [[ -n $P ]] || DOCKER_HOST=unix:///var/run/docker.sock
  [[ ! -v conf[docker] ]] || return 0
  conf[docker]=own
  [[ -z $P ]] || return 0
  if docker_answers; then
    conf[docker]=machine
  elif [[ $SUPERVISOR == systemd ]]; then
    conf[docker]=machine
    say "starting docker.service"
    systemctl -q enable --now docker.service
  fi
}

docker_service() {
  has docker && [[ ${conf[docker]} == own ]] || return 0
  if ! grep -qE '^[^ ]+ [^ ]+ cgroup2? ' /proc/self/mounts; then
    say "mounting the control groups that Docker needs"
    mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null || die "no control groups are mounted on /sys/fs/cgroup, and Docker needs them"
  fi
  local path='' command=dockerd root=/var/run/docker pidfile=/run/docker.pid mine=dockerd tool
  if ! iptables -w 5 -t nat -nL >/dev/null 2>&1; then
    # A kernel without nf_tables: the older tool may work, and is handed to this dockerd alone.
    iptables-legacy -w 5 -t nat -nL >/dev/null 2>&1 ||
      die "iptables does not work here (a container needs NET_ADMIN for it), and Docker needs it"
    install -d "$LIB/iptables"
    for tool in iptables ip6tables; do ln -sfn "/usr/sbin/$tool-legacy" "$LIB/iptables/$tool"; done
    path="env PATH=$LIB/iptables:\$PATH "
  fi
  if [[ -n $P ]]; then
    root=$RUN/docker pidfile=$RUN/docker.pid mine=$ETC/docker.json
    command="dockerd --config-file $mine --containerd-namespace appoxy-$ID --containerd-plugins-namespace appoxy-$ID-plugins"
    put docker "$mine" 644 <<EOF
{
  "data-root": "$STATE/docker",
  "exec-root": "$root",
  "pidfile": "$pidfile",
  "hosts": ["$DOCKER_HOST"],
  "bridge": "none",
  "live-restore": true
}
EOF
  elif ! grep -qs live-restore /etc/docker/daemon.json; then
    command="dockerd --live-restore"
  fi
  # After kill -9 a pid file may name some other process by now, on which dockerd would refuse to start; and it would wait
  # 15 s for a containerd that is only about to follow its parent, or is a zombie.
  service docker TERM "" <<EOF
old=\$(cat $pidfile 2>/dev/null || true)
grep -qsF $mine "/proc/\${old:-none}/cmdline" || rm -f $pidfile
old=\$(cat $root/containerd/containerd.pid 2>/dev/null || true)
if grep -qsF $root/containerd/ "/proc/\${old:-none}/cmdline"; then
  kill -KILL "\$old"
  timeout 5 tail --pid="\$old" -s 0.05 -f /dev/null || true
fi
rm -f $root/containerd/containerd.pid
exec $path$command
EOF
}

make_network() {
  docker_answers || die "Docker does not answer at $DOCKER_HOST"
  local found
  found=$(docker -H "$DOCKER_HOST" network inspect -f '{{(index .IPAM.Config 0).Subnet}}' droid-net 2>/dev/null) || true
  if [[ -n $found ]]; then conf[subnet]=$found; return; fi
  exec 8>/run/lock/appoxy-subnet
  flock -w 60 8 || die "another provision.sh holds /run/lock/appoxy-subnet"
  local subnet
  for subnet in ${conf[subnet]:-} "${SUBNETS[@]}"; do
    [[ -n $(ip -4 route show table all root "$subnet"; ip -4 route show table all match "$subnet" | grep -v '^default') ]] || break
    subnet=''
  done
  [[ -n $subnet ]] || die "no subnet from ${SUBNETS[0]} to ${SUBNETS[-1]} is free for droid-net"
  say "making the network droid-net, $subnet"
  docker -H "$DOCKER_HOST" network create --driver bridge --subnet "$subnet" -o com.docker.network.bridge.name="$BRIDGE" \
    -o com.docker.network.bridge.enable_icc=false droid-net >/dev/null
  exec 8>&-
  conf[subnet]=$subnet
}

start_stores() {
  ! has postgres || up postgres
  ! has redis || up redis
  ! has docker || [[ ${conf[docker]} != own ]] || up docker
  ! has postgres || wait_for Postgres 60 "$(log_of postgres)" pg_isready -q -h "$RUN/postgres" -p "${conf[postgres-port]}"
  ! has redis || wait_for Redis 20 "$(log_of redis)" redis-cli -e -s "$RUN/redis.sock" ping
  ! has docker || [[ ${conf[docker]} != own ]] || wait_for Docker 60 "$(log_of docker)" docker_answers
}
