-- Functions of another version that only these functions call: CREATE OR REPLACE could not change the type of their results.
DO @body@
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
  internal regprocedure;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR internal IN
    SELECT oid FROM pg_proc
      WHERE pronamespace = @schema_identifier@::regnamespace AND NOT prosecdef
        AND obj_description(oid, 'pg_proc') LIKE @mark_pattern@
        AND obj_description(oid, 'pg_proc') <> @mark@
  LOOP
    EXECUTE format('DROP FUNCTION %s', internal);
  END LOOP;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
@body@;
