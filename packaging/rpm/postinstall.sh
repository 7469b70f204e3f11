# Creates the account of the service, and lets its group read /etc/pgio.
if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers pgio.conf
elif ! getent passwd pgio >/dev/null; then
  useradd --system --user-group --no-create-home --home-dir / --shell /sbin/nologin pgio
fi
# An upgrade keeps what the administrator has set.
if [ "$1" = 1 ]; then
  chown root:pgio /etc/pgio
  chmod 750 /etc/pgio
fi
if command -v systemctl >/dev/null; then
  systemctl daemon-reload || :
fi
