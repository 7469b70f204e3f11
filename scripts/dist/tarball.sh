#!/usr/bin/env bash
# A tarball for any Linux distribution, with the installer packaging/install.sh.
set -euo pipefail

name=pgio-$PGIO_VERSION-x86_64-linux-gnu
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
root=$stage/$name

install -D -m 755 "target/$PGIO_TARGET/release/pgio" "$root/bin/pgio"
install -D -m 644 -t "$root/share/man/man1" man/*.1
install -D -m 644 completions/pgio.bash "$root/share/bash-completion/completions/pgio"
install -D -m 644 completions/_pgio "$root/share/zsh/site-functions/_pgio"
install -D -m 644 completions/pgio.fish "$root/share/fish/vendor_completions.d/pgio.fish"
install -D -m 644 -t "$root/share/doc/pgio" README.md CHANGELOG.md LICENSE
install -D -m 644 -t "$root/share/doc/pgio/docs" docs/*.md
install -D -m 644 -t "$root/share/doc/pgio/systemd" packaging/pgio.service packaging/pgio.sysusers packaging/env
install -m 755 packaging/install.sh "$root/install.sh"
tar --owner=0 --group=0 --sort=name -C "$stage" -czf "$PGIO_DIST/$name.tar.gz" "$name"
