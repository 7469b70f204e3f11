-- The attachment table, for messages that hold binary or are too large for a notification.
DO @body@
BEGIN
  IF pg_catalog.to_regclass(@table_name@) IS NULL THEN
    CREATE TABLE @table@ (id bigserial UNIQUE, created_at timestamptz DEFAULT now(), payload bytea);
    CREATE INDEX ON @table@ (created_at);
  END IF;
END
@body@;
