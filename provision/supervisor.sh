# shellcheck shell=bash disable=SC2154 # provision.sh sets conf and the paths
# Each service is a run script, kept up by systemd or by a runit of the prefix's own.

UNITS=/etc/systemd/system

all_services() {
  local name
  for name in postgres redis docker routerd droidd global-nginx local-nginx; do
    if has $name && [[ $name != docker || ${conf[docker]:-} == own ]]; then echo $name; fi
  done
}

# service NAME SIGNAL AFTER: the service whose shell commands come on stdin, stopped by SIGNAL, started after AFTER.
service() {
  local dir=$SERVICES/$1 unit
  install -d "$dir"
  put "$1" "$dir/run" 755 <<EOF
#!/bin/sh
# Written by provision.sh.
exec 2>&1
set -e
ulimit -n 1048576 2>/dev/null || ulimit -n "\$(ulimit -H -n)"
install -d -m 750 -g www-data $RUN
$(cat)
EOF
  if [[ $SUPERVISOR == runit ]]; then
    install -d "$dir/log" "$dir/control" "$LOG/$1"
    put - "$dir/log/run" 755 <<<"#!/bin/sh"$'\n'"exec svlogd -tt $LOG/$1"
    [[ $2 == TERM ]] || put - "$dir/control/t" 755 <<<"#!/bin/sh"$'\n'"exec kill -$2 \"\$(cat supervise/pid)\""
    return
  fi
  unit=$UNITS/appoxy-$1.service
  put "$1" "$unit" 644 <<EOF
[Unit]
Description=Appoxy: $1
After=network.target $3
Wants=$3
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=$dir/run
Restart=always
RestartSec=500ms
KillMode=mixed
KillSignal=SIG$2
TimeoutStopSec=20
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
EOF
}

supervised() { [[ -e $SERVICES/$1/supervise/lock ]] && ! flock -n "$SERVICES/$1/supervise/lock" true; }

# The pid of a service's master; nothing where it is down.
service_pid() {
  local pid=''
  if [[ $1 == docker && ${conf[docker]:-} != own ]]; then
    pid=$(cat /run/docker.pid 2>/dev/null) || true
  elif [[ $SUPERVISOR == systemd ]]; then
    pid=$(systemctl show -p MainPID --value "appoxy-$1.service" 2>/dev/null) || true
  elif supervised "$1"; then
    pid=$(cat "$SERVICES/$1/supervise/pid" 2>/dev/null) || true
  fi
  # While a run script still waits for something, its shell holds the pid.
  [[ -z $pid || $pid == 0 || ! -d /proc/$pid || $(readlink "/proc/$pid/exe") =~ /(da|ba|)sh$ ]] || echo "$pid"
}

log_of() { if [[ $SUPERVISOR == systemd ]]; then echo "journalctl -u appoxy-$1"; else echo "$LOG/$1/current"; fi; }

start_supervisor() {
  local name pid
  if [[ $SUPERVISOR == systemd ]]; then
    systemctl daemon-reload
    for name in $(all_services); do systemctl -q enable "appoxy-$name.service"; done
    return
  fi
  pid=$(cat "$RUN/runsvdir.pid" 2>/dev/null) || true
  if [[ -z $pid ]] || ! grep -qsF "$SERVICES" "/proc/$pid/cmdline"; then
    end_orphans
    say "starting the supervisor"
    for name in $(all_services); do : >"$SERVICES/$name/down"; done
    # Its complaints show in its own process title, as runit does it, so that no log grows. Files that the caller has open, such as
    # the lock of a cron job, must not stay open with the daemons.
    # shellcheck disable=SC2016 # the inner bash expands it
    setsid env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 bash -c '
        echo $$ >"$0/runsvdir.pid"
        for fd in /proc/$$/fd/*; do
          fd=${fd##*/}
          ((fd <= 2)) || eval "exec $fd>&-"
        done
        exec runsvdir -P "$1" "log: $2"' "$RUN" "$SERVICES" "$(printf '.%.0s' {1..400})" </dev/null >>"$LOG/supervisor.log" 2>&1 &
  fi
  for name in $(all_services); do wait_for "the supervisor of $name" 15 "$LOG/supervisor.log" supervised "$name"; done
}

# Starts a service; one that runs is left alone, unless what it runs has changed.
up() {
  local name=$1 verb=start
  if [[ -n $(service_pid "$name") ]]; then
    [[ -e $STATE/changed/$name ]] || return 0
    verb=restart
  fi
  say "${verb}ing $name"
  if [[ $SUPERVISOR == systemd ]]; then
    systemctl "$verb" "appoxy-$name.service"
  else
    rm -f "$SERVICES/$name/down"
    [[ $verb == start ]] || sv -w 25 force-stop "$SERVICES/$name" >/dev/null || true
    sv up "$SERVICES/$name" >/dev/null
  fi
  rm -f "$STATE/changed/$name"
}

down() {
  [[ $1 != docker || ${conf[docker]} == own ]] || return 0
  if [[ $SUPERVISOR == systemd ]]; then
    # Not only where it has a pid: between two restarts it has none.
    [[ $(systemctl is-active "appoxy-$1.service") =~ ^(active|activating)$ ]] || return 0
    say "stopping $1"
    systemctl stop "appoxy-$1.service"
  elif supervised "$1"; then
    say "stopping $1"
    sv -w 25 force-stop "$SERVICES/$1" >/dev/null || true
  fi
}

stop_supervisor() {
  local name pid
  [[ $SUPERVISOR == runit ]] || return 0
  pid=$(cat "$RUN/runsvdir.pid" 2>/dev/null) || true
  if [[ -n $pid ]] && grep -qsF "$SERVICES" "/proc/$pid/cmdline"; then kill -HUP "$pid"; fi
  for name in $(all_services); do
    if supervised "$name"; then sv exit "$SERVICES/$name" >/dev/null || true; fi
  done
  for name in $(all_services); do wait_for "the end of $name" 15 "$LOG/supervisor.log" not supervised "$name"; done
  rm -f "$RUN/runsvdir.pid"
  end_orphans
}

# A runsv that was killed leaves its service behind, which would be in the way of the next one: that one's pid.
orphan() {
  local pid
  if [[ $SUPERVISOR == systemd ]] || supervised "$1"; then return; fi
  pid=$(cat "$SERVICES/$1/supervise/pid" 2>/dev/null) || true
  # By now the pid may be another program's.
  [[ -n $pid ]] || return 0
  if grep -qsaF "$STATE/" "/proc/$pid/cmdline" || [[ $(readlink "/proc/$pid/cwd") == "$STATE"* ]]; then echo "$pid"; fi
}

end_orphans() {
  local name pid signal
  for name in $(all_services); do
    pid=$(orphan "$name")
    [[ -n $pid ]] || continue
    say "stopping $name, which lost its supervisor"
    signal=TERM
    [[ $name != postgres ]] || signal=INT
    kill -$signal "$pid"
    timeout 25 tail --pid="$pid" -s 0.1 -f /dev/null || kill -KILL "$pid"
  done
}

not() { ! "$@"; }

# wait_for WHAT SECONDS LOG COMMAND…
wait_for() {
  local what=$1 seconds=$2 log=$3 deadline=$((SECONDS + $2))
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      [[ ! -f $log ]] || tail -n 5 "$log" >&2
      die "waited $seconds s for $what; see $log"
    fi
    sleep 0.2
  done
}
