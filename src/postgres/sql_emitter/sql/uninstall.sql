DO @body@
DECLARE
  ours regprocedure;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR ours IN
    SELECT oid FROM pg_proc
      WHERE pronamespace = @schema_identifier@::regnamespace AND obj_description(oid, 'pg_proc') LIKE @mark_pattern@
  LOOP
    EXECUTE format('DROP FUNCTION %s', ours);
  END LOOP;
  IF obj_description(@schema_identifier@::regnamespace, 'pg_namespace') = @schema_mark@ THEN
    BEGIN
      DROP SCHEMA @schema@;
    EXCEPTION WHEN dependent_objects_still_exist THEN
      RAISE NOTICE 'schema % holds other objects, and stays', @schema_name@;
    END;
  END IF;
END
@body@
