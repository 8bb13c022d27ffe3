#!/usr/bin/env bash
# Hexagon on an x86-64 Linux machine: clang and a C library from the package ziglang, and an emulator. Nothing is installed and root is not
# needed; everything is laid in build/hexagon, the compiler's cache (build/hexagon/zig-cache, 0.1 GB) among it.
#
#   hexagon/setup.sh toolchain     build/hexagon/bin/zig-c++, zig-cc, zig-ar and zig-ranlib: what hexagon/toolchain.cmake names
#   hexagon/setup.sh emulator      build/hexagon/bin/qemu-hexagon: QEMU 10 or later, for only since then does it know v68
#   hexagon/setup.sh build [ARCH]  both, and all that hexagon/CMakeLists.txt builds for ARCH (v68), in build/hexagon/ARCH
#   hexagon/setup.sh session       the host's session for arm64 Linux and its test (hexagon/host), in build/hexagon/aarch64, and
#                                  build/hexagon/bin/qemu-aarch64, which runs them with a C library of that processor
#
# HOST_PYTHON: a Python of this machine with pip, cmake and ninja; without it a virtual environment is made in build/hexagon/host.
# QEMU_HEXAGON: an emulator to use; else one on the PATH that is new enough, else Debian's package qemu-user, through this machine's apt, from
# where qemu-aarch64 and its C library come too if they are not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/debian_packages.sh
hexagon=$PWD/build/hexagon
python=${HOST_PYTHON:-$hexagon/host/bin/python}
ziglang=0.17.0
least_qemu=10
mkdir -p "$hexagon/bin"

host_python() {
  [ -x "$python" ] && return
  ${PYTHON:-python3} -m venv "$hexagon/host"
  "$python" -m pip install -q --disable-pip-version-check cmake ninja
}

toolchain() {
  [ -e "$hexagon/zig/.$ziglang" ] && return
  rm -rf "$hexagon/zig"
  "$python" -m pip install -q --disable-pip-version-check --target "$hexagon/zig" "ziglang==$ziglang"
  for tool in c++ cc ar ranlib; do
    cat > "$hexagon/bin/zig-$tool" <<SCRIPT
#!/bin/sh
export ZIG_GLOBAL_CACHE_DIR=$hexagon/zig-cache ZIG_LOCAL_CACHE_DIR=$hexagon/zig-cache
exec $hexagon/zig/ziglang/zig $tool "\$@"
SCRIPT
    chmod +x "$hexagon/bin/zig-$tool"
  done
  touch "$hexagon/zig/.$ziglang"
}

# The major version of the emulator $1, or 0 where it does not run.
qemu_major() { ("$1" --version 2> /dev/null || true) | sed -n '1s/.*version \([0-9]*\).*/\1/p' | grep . || echo 0; }

# The program $1 of QEMU from Debian, as $2: that of this machine's release, or of its backports from where the release itself comes from.
unpack_qemu() {
  local codename uri candidate apt=$hexagon/apt
  command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || return
  debian_update "$apt" || return
  candidate=$(apt-cache "${debian_options[@]}" policy qemu-user | sed -n 's/^ *Candidate: //p')
  if dpkg --compare-versions "$candidate" lt "1:$least_qemu"; then
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    uri=$(apt-get "${debian_options[@]}" indextargets --format '$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
      sed -n "s/^Debian $codename main //p" | head -n 1)
    [ -n "$uri" ] || return
    echo "deb $uri $codename-backports main" > "$apt/sources.list"
    debian_update "$apt" -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null || return
  fi
  debian_unpack "$apt/root" qemu-user || return
  mv "$apt/root/usr/bin/$1" "$2"  # a static program
  rm -rf "$apt"
}

emulator() {
  local emulator=$hexagon/bin/qemu-hexagon found
  if [ -n "${QEMU_HEXAGON:-}" ]; then
    ln -sfn "$(realpath "$QEMU_HEXAGON")" "$emulator"
  elif [ "$(qemu_major "$emulator")" -lt $least_qemu ]; then
    rm -f "$emulator"
    found=$(command -v qemu-hexagon || true)
    if [ "$(qemu_major "$found")" -ge $least_qemu ]; then
      ln -s "$found" "$emulator"
    else
      unpack_qemu qemu-hexagon "$emulator" || true
    fi
  fi
  [ "$(qemu_major "$emulator")" -lt $least_qemu ] || return 0
  rm -f "$emulator"
  echo "hexagon/setup.sh: no qemu-hexagon of version $least_qemu or later." >&2
  echo "Neither QEMU_HEXAGON (${QEMU_HEXAGON:-not set}) nor the PATH has one, and apt on this machine gave no qemu-user that new, from its own" >&2
  echo "release or that release's backports. Install QEMU $least_qemu or later, or build it (configure --target-list=hexagon-linux-user), and name it:" >&2
  echo "  QEMU_HEXAGON=/path/to/qemu-hexagon $0 emulator" >&2
  exit 1
}

# Of arm64: any QEMU will do, and the C library of Debian's cross compiler.
arm_emulator() {
  local emulator=$hexagon/bin/qemu-aarch64 found root=/usr/aarch64-linux-gnu apt=$hexagon/apt
  [ ! -x "$emulator" ] || return 0
  found=$(command -v qemu-aarch64 || true)
  if [ -z "$found" ]; then
    found=$hexagon/bin/qemu-aarch64-program
    unpack_qemu qemu-aarch64 "$found" || { echo "hexagon/setup.sh: no qemu-aarch64: install Debian's qemu-user" >&2; exit 1; }
  fi
  if [ ! -e "$root/lib/ld-linux-aarch64.so.1" ]; then
    root=$hexagon/aarch64-root/usr/aarch64-linux-gnu
    debian_update "$apt" && debian_unpack "$hexagon/aarch64-root" libc6-arm64-cross ||
      { echo "hexagon/setup.sh: no C library for arm64: install Debian's libc6-arm64-cross" >&2; exit 1; }
    rm -rf "$apt"
  fi
  printf '#!/bin/sh\nexec %s -L %s "$@"\n' "$found" "$root" > "$emulator"
  chmod +x "$emulator"
}

# Configures (the log goes to configure-$3.log) and builds the project in $1 with the preset $2 into build/hexagon/$3.
build() {
  local bin
  bin=$(dirname "$("$python" -c 'import sys; print(sys.executable)')")
  export PATH=$bin:$PATH
  cmake -S "$1" --preset "$2" > "$hexagon/configure-$3.log" 2>&1 || { cat "$hexagon/configure-$3.log"; exit 1; }
  cmake --build "$hexagon/$3"
}

case ${1:-} in
  toolchain)
    host_python
    toolchain
    ;;
  emulator) emulator ;;
  build)
    host_python
    toolchain
    arch=${2:-v68}
    [ "$arch" != v68 ] || emulator
    build hexagon "hexagon-$arch" "$arch"
    ;;
  session)
    host_python
    toolchain
    arm_emulator
    build hexagon/host aarch64 aarch64
    ;;
  *)
    sed -n '2,14s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
