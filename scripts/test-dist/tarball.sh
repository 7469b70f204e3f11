#!/usr/bin/env bash
# The tarball: its installer into a prefix, and its removal.
set -euo pipefail
. scripts/test-dist/round-trip.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -xzf "$PGIO_DIST"/pgio-*.tar.gz -C "$work"
installer=$(echo "$work"/pgio-*/install.sh)

"$installer" --prefix "$work/prefix" >/dev/null
for file in bin/pgio share/man/man1/pgio-emit.1 share/bash-completion/completions/pgio share/zsh/site-functions/_pgio \
  share/fish/vendor_completions.d/pgio.fish share/doc/pgio/systemd/pgio.service; do
  [[ -s $work/prefix/$file ]] || { echo "error: the installer did not write $file" >&2; exit 1; }
done
grep -q "^ExecStart=$work/prefix/bin/pgio serve" "$work/prefix/share/doc/pgio/systemd/pgio.service" \
  || { echo "error: the unit does not start the installed program" >&2; exit 1; }
round_trip "$work/prefix/bin/pgio"
# As root: the files belong to root, whoever unpacked the tarball, and every user can run the program.
if [[ $(id -u) == 0 ]]; then
  chown -R 65534:65534 "$(dirname "$installer")"
  (umask 077 && "$installer" --prefix "$work/prefix" >/dev/null)
  [[ $(stat -c '%u %a' "$work/prefix/bin/pgio") == "0 755" ]] || { echo "error: $(stat -c '%u %a' "$work/prefix/bin/pgio") is the owner and mode of the program" >&2; exit 1; }
fi
# Again, over a program that runs.
"$work/prefix/bin/pgio" tail >/dev/null 2>&1 &
"$installer" --prefix "$work/prefix" >/dev/null
kill $!
"$installer" --uninstall --prefix "$work/prefix" >/dev/null
left=$(find "$work/prefix" -type f)
[[ -z $left ]] || { echo "error: left behind: $left" >&2; exit 1; }
echo "tarball: installed, sent and received an event, removed"
