-- What the functions were installed with. `pgio sql check` and `pgio doctor` read it.
CREATE TABLE IF NOT EXISTS @schema@.settings (name text PRIMARY KEY, value text NOT NULL);
COMMENT ON TABLE @schema@.settings IS @settings_mark@;
REVOKE ALL ON @schema@.settings FROM PUBLIC;
INSERT INTO @schema@.settings (name, value)
  SELECT 'table_name', pg_catalog.format('%I.%I', nspname, relname)
    FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_class.oid = pg_catalog.to_regclass(@table_name@)
  UNION ALL VALUES
    ('version', '@version@'), ('channel_prefix', @prefix@), ('payload_threshold', '@threshold@')
  ON CONFLICT (name) DO UPDATE SET value = excluded.value;
