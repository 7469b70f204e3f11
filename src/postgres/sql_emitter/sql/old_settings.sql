-- Version 1 kept its settings in a table.
DO @body@
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF EXISTS (SELECT FROM pg_class
      WHERE relnamespace = @schema_identifier@::regnamespace AND relname = 'settings' AND relkind = 'r'
        AND obj_description(oid, 'pg_class') = @settings_mark@ AND pg_has_role(relowner, 'USAGE')) THEN
    DROP TABLE @schema@.settings;
  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
@body@;
