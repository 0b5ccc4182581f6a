# shellcheck shell=bash disable=SC2154 # provision.sh sets conf and the paths
# The sample app.

# The git repository that the sample is deployed from; the same files give the same commit.
make_sample_repository() {
  local repository=$STATE/sample/hello busybox=/usr/bin/busybox
  local -x GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
  if ! installed busybox-static; then
    # The machine's busybox needs its libraries, and the static one would take its place: unpack that here alone.
    busybox=$CACHE/busybox/bin/busybox
    [[ -x $busybox ]] || (cd "$CACHE" && apt-get -qq download busybox-static >>"$LOG/packages.log" 2>&1 &&
      dpkg-deb -x busybox-static_*.deb busybox) || die "can't fetch the package busybox-static; see $LOG/packages.log"
  fi
  rm -rf "$repository.new"
  install -D -m 755 "$busybox" "$repository.new/busybox"
  install -m 644 "$SOURCE"/droidd/sample/hello/{Dockerfile,index.html} "$repository.new/"
  git -C "$repository.new" init -q -b main
  git -C "$repository.new" add -A
  GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' \
    git -C "$repository.new" -c user.name=Appoxy -c user.email=appoxy@localhost commit -q -m 'Say hello'
  if [[ $(git -C "$repository" rev-parse main 2>/dev/null) == "$(git -C "$repository.new" rev-parse main)" ]]; then
    rm -rf "$repository.new"
  else
    rm -rf "$repository"
    mv "$repository.new" "$repository"
  fi
}

# The CLI, at routerd's own port: the domain need not resolve yet.
appoxy() {
  APPOXY_URL=$API APPOXY_TOKEN=$(<"$ETC/admin.token") timeout 600 "$CLI" "$@"
}

deploy_sample() {
  [[ ${conf[sample]} == yes ]] || return 0
  local code=0
  appoxy apps info hello --json >"$CACHE/hello.json" 2>"$CACHE/hello.err" || code=$?
  case $code in
    0) [[ $(jq -r .deployment.state "$CACHE/hello.json") != live ]] && ! site_answers "hello.${conf[domain]}" 2>/dev/null || return 0 ;;
    3) appoxy apps create hello ;;
    *) cat "$CACHE/hello.err" >&2; die "can't ask for the sample app" ;;
  esac
  say "deploying the sample app hello"
  make_sample_repository
  appoxy deploy hello --git "file://$STATE/sample/hello" --ref main || die "the sample app's deployment failed"
  wait_for "$(url "hello.${conf[domain]}")" 60 "$(log_of droidd)" site_answers "hello.${conf[domain]}"
}
