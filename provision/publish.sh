# shellcheck shell=bash disable=SC2154 # provision.sh sets conf and the paths
# The binaries, built from this checkout, and the files that nginx reads.

# Shipped templates, nginx fragments and Lua, file by file, so that a daemon that watches a folder keeps its watch.
copy_shared() {
  local file changed=no
  while IFS= read -r -d '' file; do
    cmp -s "$SOURCE/$file" "$SHARE/$file" && continue
    install -D -m 644 "$SOURCE/$file" "$SHARE/$file.new"
    mv "$SHARE/$file.new" "$SHARE/$file"
    [[ $file == templates/* ]] || changed=yes
  done < <(cd "$SOURCE" && find templates nginx lua -type f -print0 2>/dev/null)
  while IFS= read -r -d '' file; do [[ -e $SOURCE/$file ]] || rm "$SHARE/$file"; done < <(cd "$SHARE" && find . -type f -print0)
  # New templates make the daemons reload nginx; of the rest they know nothing.
  [[ $changed == no ]] || mark reload
}

# What a project is built from, NUL-terminated; called in $SOURCE.
sources() { find core "$1" Directory.*.props -type f -not -path '*/bin/*' -not -path '*/obj/*' -not -path 'droidd/sample/*' -print0; }

# Publishes a project where its sources changed. It builds a copy of them, so that the checkout may be read-only and stays clean.
publish() {
  local name=$1 hash next
  [[ -f $SOURCE/$name/$name.csproj ]] || die "$SOURCE has no $name/$name.csproj"
  hash=$(cd "$SOURCE" && sources "$name" | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
  next=$LIB/versions/$name-$hash
  [[ $(readlink "$LIB/$name") != "versions/$name-$hash" ]] || return 0
  say "publishing $name"
  rm -rf "$CACHE/src" "$next" "$next.new"
  install -d "$CACHE/src"
  (cd "$SOURCE" && sources "$name" | tar -c --null -T - -f - | tar -x -C "$CACHE/src")
  HOME=${HOME:-/root} DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_GENERATE_ASPNET_CERTIFICATE=false timeout 900 \
    dotnet publish "$CACHE/src/$name/$name.csproj" -c Release -o "$next.new" --artifacts-path "$CACHE/build" \
    -nodeReuse:false -p:UseSharedCompilation=false -v quiet </dev/null >"$LOG/publish-$name.log" 2>&1 ||
    { grep -m 3 error "$LOG/publish-$name.log" >&2 || true; die "publishing $name failed; see $LOG/publish-$name.log"; }
  mv -T "$next.new" "$next"
  ln -sfn "versions/$name-$hash" "$LIB/$name.new"
  mv -T "$LIB/$name.new" "$LIB/$name"
  [[ $name == cli ]] || mark "$name"
}

# Old versions go once nothing runs from them.
prune_versions() {
  local version
  for version in "$LIB"/versions/*; do
    [[ $(readlink "$LIB/$(basename "${version%-*}")") == "versions/${version##*/}" ]] || rm -rf "$version"
  done
}

write_cli() {
  put - "$CLI" 755 <<EOF
#!/bin/sh
export APPOXY_INSTALL="\${APPOXY_INSTALL:-$ETC/install.json}" DOTNET_ROOT="\${DOTNET_ROOT:-$DOTNET}"
exec $LIB/cli/appoxy "\$@"
EOF
}
