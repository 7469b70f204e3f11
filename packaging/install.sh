#!/bin/sh
# Installs pgio from the unpacked tarball: the program, manual pages and completions. Starts and configures nothing.
#
#   ./install.sh [--prefix DIR]     into DIR (default /usr/local as root, else ~/.local)
#   ./install.sh --uninstall [--prefix DIR]
#   DESTDIR=ROOT ./install.sh       below ROOT, as packagers do
set -eu

usage() {
  echo "usage: $0 [--uninstall] [--prefix DIR]" >&2
  exit 2
}

if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=$HOME/.local; fi
uninstall=no
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) [ $# -ge 2 ] || usage; prefix=$2; shift 2 ;;
    --prefix=*) prefix=${1#--prefix=}; shift ;;
    --uninstall) uninstall=yes; shift ;;
    *) usage ;;
  esac
done
case $prefix in
  /*) ;;
  *) prefix=$PWD/$prefix ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
into=${DESTDIR:-}$prefix

# Every file of the tarball below bin and share has its place below the prefix.
files() { (cd "$here" && find bin share -type f); }

if [ "$uninstall" = yes ]; then
  files | while IFS= read -r file; do rm -f "$into/$file"; done
  rmdir "$into/share/doc/pgio/docs" "$into/share/doc/pgio/systemd" "$into/share/doc/pgio" 2>/dev/null || :
  echo "removed pgio from $into"
  exit
fi

# A program that does not run here must not replace one that does.
version=$("$here/bin/pgio" --version) || {
  echo "error: this binary does not run on this machine; it needs Linux on x86-64 with glibc 2.28 or later" >&2
  exit 1
}
umask 022
unit_prefix=$(printf '%s' "$prefix" | sed 's/[&|\\]/\\&/g')
files | while IFS= read -r file; do
  mkdir -p "$into/$(dirname "$file")"
  # Root must not install a program that the user who unpacked the tarball still owns, so the owner is not copied.
  mode=644
  [ ! -x "$here/$file" ] || mode=755
  # A running program cannot be written to, but it can be replaced.
  case $file in
    # The unit of the packages starts /usr/bin/pgio.
    */pgio.service) sed "s|^ExecStart=/usr/bin/pgio |ExecStart=$unit_prefix/bin/pgio |" "$here/$file" >"$into/$file.new" ;;
    *) cp "$here/$file" "$into/$file.new" ;;
  esac
  chmod "$mode" "$into/$file.new"
  mv -f "$into/$file.new" "$into/$file"
done
echo "installed $version into $into/bin"
case :$PATH: in
  *:"$prefix/bin":*) ;;
  *) echo "note: $prefix/bin is not in your PATH" ;;
esac
echo "note: a unit for systemd is in $into/share/doc/pgio/systemd"
