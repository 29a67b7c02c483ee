# SPDX-License-Identifier: Apache-2.0
# Sourced by image and vm: how files get into an initramfs.
# shellcheck shell=bash

die() { echo "rdmavm: $*" >&2; exit 125; }

# add_file ROOT FILE PATH : a copy of FILE below ROOT.
add_file() {
  mkdir -p "$1/$(dirname "$3")"
  cp -L "$2" "$1/$3" || die "cannot copy $2"
}

# add_program ROOT FILE PATH : a copy of FILE, executable, and of every shared library that it is linked with.
add_program() {
  local library
  add_file "$1" "$2" "$3"
  chmod 755 "$1/$3"
  # ldd fails for a static program, which needs nothing.
  while read -r library; do
    [ -e "$1$library" ] || add_file "$1" "$library" "$library"
  done < <(ldd "$2" 2>/dev/null | grep -o '/[^ ]*')
}

# pack ROOT : what is below ROOT as a cpio archive, owned by root. The kernel unpacks several of them, one after another.
pack() { (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0); }
