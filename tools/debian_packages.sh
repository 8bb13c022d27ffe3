# Debian packages into a folder, without root, whatever the machine has installed. Sourced by tools/arm.sh and hexagon/setup.sh.

# debian_update STATE [OPTION ...]: reads the package lists of the configured sources into STATE. The options are apt's, and those of every
# later call on the same STATE.
debian_update() {
  local state=$1
  shift
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  debian_options=(-o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache" -o Dir::State::status=/dev/null
    -o APT::Sandbox::User=root "$@")
  apt-get "${debian_options[@]}" -qq update
}

# debian_unpack ROOT PACKAGE ...: downloads the packages' newest versions of those lists, and unpacks them into ROOT.
debian_unpack() {
  local root=$1 downloads
  shift
  downloads=$(mktemp -d)
  (cd "$downloads" && apt-get "${debian_options[@]}" -qq download "$@") || return
  mkdir -p "$root"
  for package in "$downloads"/*.deb; do dpkg-deb -x "$package" "$root"; done
  rm -rf "$downloads"
}
