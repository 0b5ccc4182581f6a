# shellcheck shell=bash disable=SC2154 # provision.sh sets conf and the paths
# What makes several machines one Appoxy: certificates, and the ports at which the machines reach each other.

# The cluster section of a daemon's settings, behind a comma; nothing on a machine that is alone.
cluster_settings() {
  clustered || return 0
  if [[ ${conf[role]} == proxy ]]; then
    cat <<EOF
,
  "cluster": {
    "folder": "$STATE/cluster", "control": "${conf[control]}",
    "postgresPort": ${conf[tunnel-postgres]}, "redisPort": ${conf[tunnel-redis]}, "apiPort": ${conf[tunnel-api]}
  }
EOF
  elif joins; then
    cat <<EOF
,
  "cluster": { "folder": "$STATE/cluster", "control": "${conf[control]}", "listen": "https://0.0.0.0:8444", "nginxListen": "0.0.0.0:8445" }
EOF
  else
    cat <<EOF
,
  "cluster": {
    "folder": "$STATE/cluster", "caFolder": "$STATE/routerd/ca",
    "listen": "https://0.0.0.0:${conf[cluster-port]}", "address": "https://${conf[address]}:${conf[cluster-port]}"
  }
EOF
  fi
}

# Has this machine's key signed by the control machine's CA, once. A new token lets it join anew.
join() {
  local token=$JOIN joined=$STATE/cluster/joined.json daemon=droidd
  [[ -n $token ]] || return 0
  has droidd || daemon=routerd
  [[ ! -f $token ]] || token=$(<"$token")
  # A token that was used is no fault where this very machine has used it.
  if [[ -s $joined && $(cat "$STATE/cluster/token" 2>/dev/null) == "$(sha256sum <<<"$token")" ]]; then return 0; fi
  say "joining"
  install -d "$STATE/cluster"
  # What is answered may hold a password.
  (umask 077; : >"$joined.new")
  # On standard input, as a command line is for all to see.
  DOTNET_ROOT=$DOTNET "$LIB/$daemon/$daemon" join --folder "$STATE/cluster" --role "${conf[role]}" --address "${conf[address]}" \
    <<<"$token" >"$joined.new" 2>"$LOG/join.log" || {
    tail -n 1 "$LOG/join.log" >&2
    die "joining failed"
  }
  mv "$joined.new" "$joined"
  sha256sum <<<"$token" >"$STATE/cluster/token"
  conf[name]=$(jq -r .name "$joined")
  conf[domain]=$(jq -r .domain "$joined")
  conf[control]=$(jq -r .control "$joined")
  mark "$daemon"
}

# Whether the control machine has taken a heartbeat of this machine's lately.
is_heard() { [[ -n $(find "$STATE/cluster/heard" -newermt '-10 seconds' 2>/dev/null) ]]; }

write_joined_install() {
  put - "$ETC/install.json" 600 <<EOF
{
  "role": "${conf[role]}",
  "name": "${conf[name]}",
  "domain": "${conf[domain]}",
  "control": "${conf[control]}",
  "docker_host": "${DOCKER_HOST:-}",
  "droidd_hook_socket": "$RUN/droidd-hook.sock",
  "pids": {
    "global_nginx": $(pid_or_null global-nginx),
    "local_nginx": $(pid_or_null local-nginx),
    "routerd": $(pid_or_null routerd),
    "droidd": $(pid_or_null droidd),
    "redis": $(pid_or_null redis),
    "docker": $(pid_or_null docker)
  }
}
EOF
}
