-- Roles get EXECUTE by --grant alone: what ALTER DEFAULT PRIVILEGES has given on a new function goes, and so does every
-- privilege on an internal function. A new function has no mark yet.
DO @body@
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
  unwanted record;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR unwanted IN
    SELECT DISTINCT pg_proc.oid::regprocedure AS function, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role
      FROM unnest(ARRAY[
          @signatures@
        ]) AS signature
      JOIN pg_proc ON pg_proc.oid = to_regprocedure(format('%I.%s', @schema_name@, signature))
      CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner)))
      WHERE grantee <> proowner
        AND (grantee = 0 OR NOT prosecdef OR obj_description(pg_proc.oid, 'pg_proc') IS NULL)
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', unwanted.function, unwanted.role);
  END LOOP;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
@body@;
