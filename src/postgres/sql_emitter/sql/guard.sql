-- A function of an application is not replaced. A function of another role, with one of these names and other arguments, could
-- be called in place of ours, with the rights of their owner.
DO @body@
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
  taken text;
  other_owner text;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  SELECT object INTO taken
    FROM (
      SELECT format('function %s', same)
        FROM unnest(ARRAY[
          @signatures@
        ]) AS signature,
        to_regprocedure(format('%I.%s', @schema_name@, signature)) AS same
        WHERE same IS NOT NULL AND obj_description(same, 'pg_proc') LIKE @mark_pattern@ IS NOT true
    ) AS other (object)
    LIMIT 1;
  IF taken IS NOT NULL THEN
    RAISE EXCEPTION '% is there already, and is not of pgio: choose another schema', taken
      USING ERRCODE = 'duplicate_object',
        HINT = 'a dump that was restored without comments lacks the marks of pgio: drop the schema first';
  END IF;
  SELECT pg_proc.oid::regprocedure, rolname INTO taken, other_owner
    FROM pg_proc JOIN pg_roles ON pg_roles.oid = proowner
    WHERE pronamespace = @schema_identifier@::regnamespace AND proname IN (@names@)
      AND NOT (rolname = current_user OR rolsuper)
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'function % belongs to %, and could be called with the rights of %: choose another schema',
      taken, other_owner, current_user
      USING ERRCODE = 'insufficient_privilege', HINT = format('DROP FUNCTION %s, if nothing uses it', taken);
  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
@body@;
