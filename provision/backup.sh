# shellcheck shell=bash disable=SC2154,SC2153 # provision.sh sets conf and the paths
# One file with all that an install is made of but its software, and an install from such a file.

BACKUP_FORMAT=1
# What provision.sh makes anew, with ports and passwords of the machine's own.
OWN_FILES=(install.json routerd.json droidd.json redis.conf docker.json postgres.password provision.conf)

psql_root() { as postgres psql -Xqw -v ON_ERROR_STOP=1 -h "$RUN/postgres" -p "${conf[postgres-port]}" -d appoxy "$@"; }

# tar says 1 where a file grew while it was read; what matters of such files is what was there.
pack_folder() {
  local code=0
  tar --numeric-owner --xattrs -C "$1" -czf "$2" "${@:3}" 2>/dev/null || code=$?
  ((code <= 1)) || die "tar of $1 failed"
}

# The volumes of apps: Docker's name, the app's uid, the volume's id.
app_volumes() {
  timeout 60 docker -H "$DOCKER_HOST" volume ls -q --filter label=appoxy.volume | xargs -r \
    timeout 60 docker -H "$DOCKER_HOST" volume inspect -f '{{.Name}} {{index .Labels "appoxy.uid"}} {{index .Labels "appoxy.volume"}} {{.Mountpoint}}'
}

backup() {
  local file=${saved[file]} work name uid id folder list folders=() images=() exclude=()
  has postgres || die "a backup is made on the control machine"
  lock
  [[ $file == /* ]] || file=$CALLED_FROM/$file
  [[ ! -d $file && -d $(dirname "$file") ]] || die "$file can't be written: give a file in a folder that is there"
  database_answers || die "Postgres does not answer; see provision.sh --status"
  work=$file.parts
  rm -rf "$work"
  (umask 077; mkdir "$work")
  # shellcheck disable=SC2064 # the file's name as it is now
  trap "rm -rf '$work' '$file.new'" EXIT
  umask 077
  say "saving the database"
  # First: what it names lies in the files below, which only grow.
  as postgres pg_dump -h "$RUN/postgres" -p "${conf[postgres-port]}" -Fc -d appoxy >"$work/database" || die "pg_dump failed"
  say "saving settings, keys and sources"
  for name in "${OWN_FILES[@]}"; do exclude+=(--exclude="./$name"); done
  pack_folder "$ETC" "$work/etc.tgz" "${exclude[@]}" .
  for name in git uploads routerd cluster certificates droids sample; do [[ ! -d $STATE/$name ]] || folders+=("$name"); done
  # Sources that are being built come again from where they came from.
  pack_folder "$STATE" "$work/state.tgz" --exclude='droids/*/deployments/*/source' "${folders[@]}"
  if [[ ${saved[volumes]:-no} == yes ]] && has docker; then
    mkdir "$work/volumes"
    # Not read from the command itself, whose failure would pass for no volumes.
    list=$(app_volumes)
    while read -r name uid id folder; do
      [[ -n $name ]] || continue
      say "saving volume $id of $uid"
      printf '%s %s %s\n' "$name" "$uid" "$id" >>"$work/volumes.list"
      pack_folder "$folder" "$work/volumes/$id.tgz" .
    done <<<"$list"
  fi
  if [[ ${saved[images]:-no} == yes ]] && has docker; then
    list=$(docker -H "$DOCKER_HOST" image ls --format '{{.Repository}}:{{.Tag}}' 'appoxy/*')
    mapfile -t images < <(sed '/<none>/d; /^$/d' <<<"$list")
    say "saving ${#images[@]} images"
    ((${#images[@]} == 0)) || docker -H "$DOCKER_HOST" save "${images[@]}" | gzip -1 >"$work/images.tgz" || die "docker save failed"
  fi
  {
    printf 'appoxy-backup %s\nmade %s\n' "$BACKUP_FORMAT" "$(date -u +%FT%TZ)"
    for name in domain name role cluster-port; do printf '%s %s\n' "$name" "${conf[$name]}"; done
    (cd "$work" && find . -type f ! -name .manifest -printf '%P\n' | sort | xargs -d '\n' sha256sum)
  } >"$work/.manifest"
  mv "$work/.manifest" "$work/manifest"
  say "writing $file"
  (cd "$work" && { echo manifest; find . -type f ! -name manifest -printf '%P\n' | sort; } | tar -cf - -T -) | encrypt >"$file.new"
  mv "$file.new" "$file"
  say "saved in $file, $(stat -c %s "$file" | numfmt --to=iec)B${saved[passphrase-file]:+, encrypted}; it holds every secret of this install"
}

# openssl's own form, so that it can be opened without Appoxy; the manifest's sums tell what was altered.
encrypt() {
  if [[ -v saved[passphrase-file] ]]; then openssl enc -aes-256-cbc -pbkdf2 -iter 600000 -salt -pass "file:${saved[passphrase-file]}"; else cat; fi
}

# Unpacks a backup to a folder and checks all of it, before anything else is touched.
open_backup() {
  local file=$1 work=$2 key value format='' count=0
  [[ -f $file && -r $file ]] || die "$file: there is no such file"
  if [[ $(head -c 8 "$file") == Salted__ ]]; then
    [[ -v saved[passphrase-file] ]] || die "$file is encrypted: give --passphrase-file"
    openssl enc -d -aes-256-cbc -pbkdf2 -iter 600000 -pass "file:${saved[passphrase-file]}" -in "$file" -out "$work.tar" 2>/dev/null ||
      die "$file does not open with this passphrase, or is broken; nothing was changed"
    file=$work.tar
  fi
  [[ $(tar -tf "$file" 2>/dev/null | head -n 1) == manifest ]] || die "$1 is no backup of Appoxy, or does not open with this passphrase; nothing was changed"
  # As no user's names or modes, and nothing outside of the folder.
  tar -xf "$file" -C "$work" --no-same-owner 2>/dev/null || die "$1 is broken or cut short; nothing was changed"
  rm -f "$work.tar"
  while read -r key value; do
    case $key in
      appoxy-backup) format=$value ;;
      made | domain | name | role | cluster-port) backup[$key]=$value ;;
      *) printf '%s  %s\n' "$key" "$value" >>"$work/.sums"; count=$((count + 1)) ;;
    esac
  done <"$work/manifest"
  [[ $format =~ ^[0-9]+$ ]] || die "$1 is no backup of Appoxy; nothing was changed"
  ((format <= BACKUP_FORMAT)) || die "$1 was made by a newer Appoxy (format $format, this one reads $BACKUP_FORMAT); nothing was changed"
  ((count > 0)) || die "$1 lacks all parts; nothing was changed"
  (cd "$work" && sha256sum --quiet --strict -c .sums) >/dev/null 2>&1 || die "$1 is broken or cut short; nothing was changed"
  [[ -s $work/database && -s $work/etc.tgz && -s $work/state.tgz ]] || die "$1 lacks a part; nothing was changed"
}

restore() {
  local file=${saved[file]} work count name uid id containers=() options=()
  local -A backup=()
  [[ $file == /* ]] || file=$CALLED_FROM/$file
  mkdir -p /var/tmp
  work=$(mktemp -d /var/tmp/appoxy-restore.XXXXXX)
  # shellcheck disable=SC2064 # the folder's name as it is now
  trap "rm -rf '$work' '$work.tar'" EXIT
  open_backup "$file" "$work"
  if [[ ! -e $ETC/install.json ]]; then
    [[ -z ${backup[cluster-port]} || -v given[cluster-port] ]] || options+=(--cluster-port "${backup[cluster-port]}")
    for name in "${!given[@]}"; do [[ $name =~ ^(domain|name|role|sample)$ ]] || options+=("--$name" "${given[$name]}"); done
    # A process of its own: in a condition, bash would go on after faults.
    "$SOURCE/provision.sh" ${P:+--prefix "$P"} --domain "${backup[domain]}" --name "${backup[name]}" --role "${backup[role]}" --no-sample "${options[@]}" ||
      die "the install failed; see above"
    load_settings
    ! has docker || choose_docker
  fi
  [[ ${conf[domain]} == "${backup[domain]}" && ${conf[name]} == "${backup[name]}" ]] ||
    die "the backup is of domain ${backup[domain]} and server ${backup[name]}, this install of ${conf[domain]} and ${conf[name]}; nothing was changed"
  lock
  database_answers || die "Postgres does not answer; see provision.sh --status"
  count=$(psql_root -tA -c "select count(*) from apps where name <> 'hello'")
  [[ $count == 0 || ${saved[force]:-no} == yes ]] ||
    die "there are $count apps on this install, which would be lost; --force restores over them. Nothing was changed"
  say "restoring what was saved at ${backup[made]}"
  for name in global-nginx local-nginx droidd routerd; do ! has $name || down $name; done
  ! has docker || mapfile -t containers < <(droids -a)
  ((${#containers[@]} == 0)) || timeout 120 docker -H "$DOCKER_HOST" rm -f "${containers[@]}" >/dev/null || true
  psql_root -c 'drop schema public cascade; create schema public authorization pg_database_owner' 2>/dev/null
  as postgres pg_restore -h "$RUN/postgres" -p "${conf[postgres-port]}" -d appoxy --no-owner --role=appoxy -1 <"$work/database" ||
    die "the database can't be restored; see above, and run this again"
  # Routes are made anew from it; versions of before would pass for newer ones.
  redis-cli -s "$RUN/redis.sock" flushall >/dev/null
  rm -rf "$STATE"/{git,uploads,routerd,cluster,certificates,droids,sample} "$STATE"/*.snapshot
  tar -xzf "$work/etc.tgz" -C "$ETC" --numeric-owner -p
  tar -xzf "$work/state.tgz" -C "$STATE" --numeric-owner -p
  make_folders
  if [[ -s $work/volumes.list ]]; then
    while read -r name uid id; do
      say "restoring volume $id of $uid"
      docker -H "$DOCKER_HOST" volume create --label "appoxy.uid=$uid" --label "appoxy.volume=$id" "$name" >/dev/null
      tar -xzf "$work/volumes/$id.tgz" --numeric-owner -p -C "$(docker -H "$DOCKER_HOST" volume inspect -f '{{.Mountpoint}}' "$name")"
    done <"$work/volumes.list"
  fi
  [[ ! -s $work/images.tgz ]] || { say "restoring images"; gzip -dc "$work/images.tgz" | docker -H "$DOCKER_HOST" load -q >/dev/null; }
  routerd migrate
  routerd admin --email "admin@${conf[domain]}" --password-file "$ETC/admin.password" --token-file "$ETC/admin.token"
  start_daemons
  write_install
  say "restored; apps whose image was not saved are built again and serve when they are ready: appoxy ps"
}
