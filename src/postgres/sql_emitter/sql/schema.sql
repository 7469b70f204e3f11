-- The schema. Whoever can create objects in it could act with the rights of the functions' owner.
DO @body@
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
  intruder text;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF current_setting('server_version_num')::int < 120000 THEN
    RAISE EXCEPTION 'the functions need PostgreSQL 12 or later' USING ERRCODE = 'feature_not_supported';
  END IF;
  IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = @schema_name@) THEN
    EXECUTE format('CREATE SCHEMA %I', @schema_name@);
    EXECUTE format('COMMENT ON SCHEMA %I IS %L', @schema_name@, @schema_mark@);
  END IF;
  SELECT coalesce(rolname, 'PUBLIC') INTO intruder
    FROM (SELECT nspowner FROM pg_namespace WHERE nspname = @schema_name@
      UNION ALL
      SELECT grantee FROM pg_namespace, aclexplode(nspacl)
        WHERE nspname = @schema_name@ AND privilege_type = 'CREATE') AS creator (id)
    CROSS JOIN pg_database
    LEFT JOIN pg_roles
      ON pg_roles.oid = CASE creator.id WHEN to_regrole('pg_database_owner') THEN datdba ELSE creator.id END
    WHERE datname = current_database() AND (rolname IS NULL OR NOT (rolname = current_user OR rolsuper))
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% may create objects in schema %, and could act there with the rights of %: choose another schema',
      intruder, @schema_name@, current_user USING ERRCODE = 'insufficient_privilege';
  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
@body@;
