#!/usr/bin/env bash
# The Debian package, in a chroot of each release of SUITES that has neither Rust nor OpenSSL.
set -euo pipefail
. scripts/test-dist/round-trip.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=$(echo "$PGIO_DIST"/pgio_*.deb)

for suite in ${SUITES:-stable}; do
  root=$work/$suite
  debootstrap --variant=minbase "$suite" "$root" >"$work/log" || { cat "$work/log" >&2; exit 1; }
  cp /etc/resolv.conf "$root/etc/"
  cp "$package" "$root/root/pgio.deb"
  # With /proc, as any container has it; the mount ends with the command.
  # shellcheck disable=SC2016
  enter=(unshare --mount sh -c 'mount --bind /proc "$0/proc" && exec chroot "$0" "$@"' "$root")
  inside() { "${enter[@]}" "$@"; }

  inside apt-get install -y -qq --no-install-recommends /root/pgio.deb >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  if inside sh -c 'command -v cargo || command -v openssl'; then
    echo "error: the chroot is not empty enough to tell what the package needs" >&2
    exit 1
  fi
  for file in /usr/bin/pgio /usr/share/man/man1/pgio-emit.1.gz /usr/share/bash-completion/completions/pgio \
    /usr/share/zsh/vendor-completions/_pgio /usr/share/fish/vendor_completions.d/pgio.fish \
    /usr/lib/systemd/system/pgio.service /usr/lib/sysusers.d/pgio.conf; do
    # minbase leaves out manual pages only if it was told to; dpkg knows what belongs to the package.
    inside dpkg -L pgio | grep -qxF "$file" || { echo "error: $file is not in the package" >&2; exit 1; }
  done
  [[ $(inside stat -c '%U:%G %a' /etc/pgio /etc/pgio/env | tr '\n' ' ') == 'root:pgio 750 root:root 600 ' ]]
  [[ $(inside getent passwd pgio) == *nologin ]]
  # The service is installed, and not enabled.
  [[ ! -e $root/etc/systemd/system/multi-user.target.wants/pgio.service ]]

  inside pgio --version
  round_trip "${enter[@]}" pgio
  # An administrator's settings outlive a new installation.
  echo '# changed' >>"$root/etc/pgio/env"
  inside dpkg --install /root/pgio.deb >/dev/null
  grep -q '^# changed$' "$root/etc/pgio/env"
  inside dpkg --purge pgio >/dev/null
  [[ ! -e $root/usr/bin/pgio && ! -e $root/etc/pgio/env ]]
  echo "deb: on Debian $(cat "$root/etc/debian_version") with glibc $(inside ldd --version | sed -n '1s/.* //p'): installed, sent and received an event, kept its settings, removed"
done
