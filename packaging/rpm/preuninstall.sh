# $1 is 0 when the package is removed, and 1 when another version replaces it.
if [ "$1" -eq 0 ] && command -v systemctl >/dev/null; then
  systemctl --no-reload disable --now pgio.service || :
fi
