if command -v systemctl >/dev/null; then
  systemctl daemon-reload || :
  # $1 is 1 when another version has replaced this one.
  if [ "$1" -ge 1 ]; then
    systemctl try-restart pgio.service || :
  fi
fi
