# shellcheck shell=bash disable=SC2154 # provision.sh sets conf and the paths
# routerd, droidd and both nginxes.

# The values below passed the checks of provision.sh, so that none needs quoting in JSON or in a run script.

# nginx_settings NAME SNAPSHOT: the nginx section of a daemon's settings.
nginx_settings() {
  local modules=''
  [[ ${conf[nginx-binary]} != "$DEBIAN_NGINX" ]] ||
    modules='"/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so"'
  cat <<EOF
{
    "binary": "${conf[nginx-binary]}",
    "root": "$STATE/nginx/$1",
    "pidFile": "$RUN/$1-nginx.pid",
    "controlSocket": "$RUN/$1-control.sock",
    "templates": "$SHARE/templates",
    "templateOverrides": "$ETC/templates",
    "fragments": "$SHARE/nginx",
    "lua": "$SHARE/lua",
    "logDir": "$LOG",
    "runDir": "$RUN",
    "snapshot": "$2",
    "modules": [$modules]
  }
EOF
}

write_settings() {
  ! has routerd || routerd_settings
  ! has droidd || droidd_settings
}

routerd_settings() {
  local proxies='' servers='' name=r1 postgres=''
  if joins; then
    name=${conf[name]}
    postgres=$(jq -r --arg port "${conf[tunnel-postgres]}" \
      '"Host=127.0.0.1;Port=\($port);Username=\(.proxy.username);Password=\(.proxy.password);Database=\(.proxy.database)"' "$STATE/cluster/joined.json")
  else
    postgres="Host=127.0.0.1;Port=${conf[postgres-port]};Username=appoxy;Password=$(<"$ETC/postgres.password");Database=appoxy"
  fi
  ! has droidd || servers="{ \"name\": \"${conf[name]}\", \"address\": \"unix:$RUN/droidd.sock\", \"upstream\": \"unix:$RUN/local-nginx.sock\" }"
  [[ ${conf[trusted-proxies]} == none ]] || proxies="\"${conf[trusted-proxies]//,/\", \"}\""
  put routerd "$ETC/routerd.json" 600 <<EOF
{
  "name": "$name",
  "domain": "${conf[domain]}",
  "httpPort": ${conf[http-port]},
  "httpsPort": ${conf[https-port]},
  "listen": "$API",
  "postgres": "$postgres",
  "redis": "unix:$RUN/redis.sock",
  "trustedProxies": [$proxies],
  "gitDir": "$STATE/git",
  "uploadDir": "$STATE/uploads",
  "secretsKey": "$ETC/secrets.key",
  "nginx": $(nginx_settings global "$STATE/routes.snapshot"),
  "servers": [$servers]$(cluster_settings)
}
EOF
}

droidd_settings() {
  local ports="${conf[http-port]}, ${conf[https-port]}"
  has global-nginx || ports=''
  put droidd "$ETC/droidd.json" 600 <<EOF
{
  "name": "${conf[name]}",
  "domain": "${conf[domain]}",
  "listen": "unix:$RUN/droidd.sock",
  "hookSocket": "$RUN/droidd-hook.sock",
  "docker": "$DOCKER_HOST",
  "network": "droid-net",
  "subnet": "${conf[subnet]}",
  "hostPorts": [$ports],
  "dataDir": "$STATE/droids",
  "nginxSocket": "$RUN/local-nginx.sock",
  "nginx": $(nginx_settings local "$STATE/droids.snapshot")$(! joins || cluster_settings)
}
EOF
}

daemon_service() {
  service "$1" TERM "$2" <<EOF
${3:+rm -f $3}
cd $STATE
exec env HOME=$STATE/home DOTNET_ROOT=$DOTNET DOTNET_NOLOGO=1 $LIB/$1/$1 --config $ETC/$1.json
EOF
}

# nginx_service NAME DAEMON SOCKET…
nginx_service() {
  local name=$1 daemon=$2 root=$STATE/nginx/${1%-nginx} group='' sockets=()
  shift 2
  sockets=("${@/#/$RUN/}")
  [[ $SUPERVISOR == systemd ]] || group='chpst -P '
  service "$name" TERM "appoxy-$daemon.service" <<EOF
tries=0
until [ -e $root/current/nginx.conf ]; do
  tries=\$((tries + 1))
  [ \$tries -lt 60 ] || { echo "no configuration yet: $daemon writes it"; exit 1; }
  sleep 0.2
done
old=\$(cat $RUN/$name.pid 2>/dev/null || true)
if [ -n "\$old" ]; then
  ! tr '\\0' ' ' <"/proc/\$old/cmdline" 2>/dev/null | grep -qF $root/current/ || { echo "its old master \$old still runs"; exit 1; }
  # A master that was killed leaves workers that hold its ports; master and workers are one process group.
  pkill -KILL -g "\$old" -x $(basename "${conf[nginx-binary]}") || true
fi
rm -f ${sockets[*]}
exec $group${conf[nginx-binary]} -p $root/current/ -c $root/current/nginx.conf -e $LOG/$name.error.log -g 'daemon off; pid $RUN/$name.pid;'
EOF
}

write_services() {
  ! has postgres || postgres_service
  ! has redis || redis_service
  docker_service
  ! has routerd || daemon_service routerd "$(! has postgres || echo 'appoxy-postgres.service ')appoxy-redis.service"
  ! has droidd || daemon_service droidd "$([[ ${conf[docker]} == own ]] && echo appoxy-)docker.service" "$RUN/droidd.sock $RUN/droidd-hook.sock"
  ! has global-nginx || nginx_service global-nginx routerd global-control.sock
  ! has local-nginx || nginx_service local-nginx droidd local-control.sock local-nginx.sock
}

# Whether routerd, which runs as it should, knows the admin's token: then the database has all that it needs.
admin_is_known() {
  [[ ! -e $STATE/changed/routerd && -s $ETC/admin.password && -s $ETC/admin.token ]] || return 1
  ask -H @- "$API/v1/servers" <<<"Authorization: Bearer $(<"$ETC/admin.token")" >/dev/null 2>&1
}

first_admin() {
  ! admin_is_known || return 0
  routerd migrate
  routerd admin --email "admin@${conf[domain]}" --password-file "$ETC/admin.password" --token-file "$ETC/admin.token"
}

routerd() {
  "$LIB/routerd/routerd" "$@" --config "$ETC/routerd.json" >"$LOG/routerd-$1.log" 2>&1 && return
  tail -n 3 "$LOG/routerd-$1.log" >&2
  die "routerd $1 failed; see $LOG/routerd-$1.log"
}

ask() { curl -fsS --noproxy '*' --max-time 5 "$@"; }

# Whether a visitor of the host gets 2xx or 3xx from the global nginx.
site_answers() { ask --max-time 70 -o /dev/null -H "Host: $1" "http://127.0.0.1:${conf[http-port]}/"; }

start_daemons() {
  local name
  for name in routerd droidd global-nginx local-nginx; do ! has $name || up $name; done
  ! has routerd || wait_for routerd 30 "$(log_of routerd)" ask "$API/healthz"
  ! has droidd || wait_for droidd 30 "$(log_of droidd)" ask --unix-socket "$RUN/droidd.sock" http://droidd/server
  ! has local-nginx || wait_for 'the local nginx' 30 "$(log_of local-nginx)" ask --unix-socket "$RUN/local-control.sock" http://nginx/version
  ! joins || wait_for "the control machine's word that this one is up" 30 "$(log_of "$(has droidd && echo droidd || echo routerd)")" is_heard
  ! has global-nginx || wait_for 'the console through the global nginx' 60 "$(log_of global-nginx)" site_answers "console.${conf[domain]}"
  [[ -e $STATE/changed/reload ]] || return 0
  for name in global-nginx local-nginx; do ! has $name || kill -HUP "$(service_pid $name)"; done
  rm "$STATE/changed/reload"
}

# What outsiders rely on: where everything is, and the pids as they are now.
write_install() {
  if joins; then write_joined_install; return; fi
  put - "$ETC/install.json" 600 <<EOF
{
  "domain": "${conf[domain]}",
  "http_url": "$(url "${conf[domain]}")",
  "console_url": "$(url "console.${conf[domain]}")",
  "api_url": "$API",
  "admin_email": "admin@${conf[domain]}",
  "admin_password_file": "$ETC/admin.password",
  "token_file": "$ETC/admin.token",
  "docker_host": "${DOCKER_HOST:-}",
  "database_url": "postgresql://appoxy:$(<"$ETC/postgres.password")@127.0.0.1:${conf[postgres-port]}/appoxy",
  "redis": "redis://127.0.0.1:${conf[redis-port]}",
  "droidd_hook_socket": "$RUN/droidd-hook.sock",
  "pids": {
    "global_nginx": $(pid_or_null global-nginx),
    "local_nginx": $(pid_or_null local-nginx),
    "routerd": $(pid_or_null routerd),
    "droidd": $(pid_or_null droidd),
    "redis": $(pid_or_null redis),
    "postgres": $(pid_or_null postgres),
    "docker": $(pid_or_null docker)
  }
}
EOF
}

pid_or_null() {
  local pid
  pid=$(service_pid "$1")
  echo "${pid:-null}"
}
