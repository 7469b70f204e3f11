-- A role that could execute a function of another version may execute its successor: the function of the same name whose
-- `args` have the same type. What has no successor goes.
DO @body@
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
  granted record;
  obsolete regprocedure;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR granted IN
    SELECT DISTINCT new.oid::regprocedure AS function, grantee::regrole AS role
      FROM pg_proc AS old
      JOIN pg_proc AS new ON new.proname = old.proname AND new.pronamespace = old.pronamespace
      CROSS JOIN aclexplode(old.proacl)
      WHERE old.pronamespace = @schema_identifier@::regnamespace
        AND obj_description(old.oid, 'pg_proc') LIKE @mark_pattern@
        AND obj_description(old.oid, 'pg_proc') <> @mark@
        AND obj_description(new.oid, 'pg_proc') = @mark@
        -- The types of the arguments are counted from 0, their names from 1.
        AND old.proargtypes[array_position(old.proargnames, 'args') - 1]
          IS NOT DISTINCT FROM new.proargtypes[array_position(new.proargnames, 'args') - 1]
        AND grantee NOT IN (0, old.proowner)
        AND NOT has_function_privilege(grantee, new.oid, 'EXECUTE')
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', granted.function, granted.role);
  END LOOP;
  FOR obsolete IN
    SELECT oid FROM pg_proc
      WHERE pronamespace = @schema_identifier@::regnamespace
        AND obj_description(oid, 'pg_proc') LIKE @mark_pattern@
        AND obj_description(oid, 'pg_proc') <> @mark@
  LOOP
    EXECUTE format('DROP FUNCTION %s', obsolete);
  END LOOP;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
@body@;
