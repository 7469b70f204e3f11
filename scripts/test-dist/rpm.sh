#!/usr/bin/env bash
# The RPM package, as far as rpm goes on Debian: its list of files, what it requires, and an installation into a directory
# without its scripts and dependencies, as there is no distribution below it.
set -euo pipefail
. scripts/test-dist/round-trip.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=$(echo "$PGIO_DIST"/pgio-*.rpm)

files=$(rpm -qpl "$package")
for file in /usr/bin/pgio /usr/share/man/man1/pgio-emit.1 /usr/share/bash-completion/completions/pgio \
  /usr/share/zsh/site-functions/_pgio /usr/share/fish/vendor_completions.d/pgio.fish \
  /usr/lib/systemd/system/pgio.service /usr/lib/sysusers.d/pgio.conf /etc/pgio/env; do
  grep -qxF "$file" <<<"$files" || { echo "error: $file is not in the package" >&2; exit 1; }
done
[[ $(rpm -qpc "$package") == /etc/pgio/env ]]
needed=$(rpm -qp --requires "$package" | grep -oE 'GLIBC_[0-9.]+' | sort -V | tail -1)
echo "rpm: requires $needed"

rpm --root "$work" --initdb
rpm --root "$work" --install --nodeps --noscripts "$package"
[[ $(stat -c %a "$work/etc/pgio/env") == 600 ]]
round_trip "$work/usr/bin/pgio"
rpm --root "$work" --verify --nodeps pgio
rpm --root "$work" --erase --noscripts pgio
[[ ! -e $work/usr/bin/pgio ]]
echo "rpm: installed into a directory, sent and received an event, removed"
