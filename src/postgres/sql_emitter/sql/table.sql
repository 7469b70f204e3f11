-- The attachment table, for messages that hold binary or are too large for a notification. A role that can create triggers on it
-- could run code with the rights of the functions' owner.
DO @body@
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
  is_new boolean := pg_catalog.to_regclass(@table_name@) IS NULL;
  attachments regclass;
  creator record;
BEGIN
  IF is_new THEN
    -- The primary key is also the replica identity, without which a publication makes every DELETE fail.
    CREATE TABLE @table@ (id bigserial PRIMARY KEY, created_at timestamptz DEFAULT now(), payload bytea);
    CREATE INDEX ON @table@ (created_at);
  END IF;
  attachments := pg_catalog.to_regclass(@table_name@);
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR creator IN
    SELECT coalesce(quote_ident(rolname), 'PUBLIC') AS name, kind, nspname AS schema
      FROM pg_class
      JOIN pg_namespace ON pg_namespace.oid = relnamespace
      -- The owner of the schema can drop the table and create another one. The owner of the database is trusted.
      CROSS JOIN LATERAL (SELECT relowner, 1
        UNION ALL
        SELECT nspowner, 2 FROM pg_database WHERE datname = current_database()
          AND nspowner NOT IN (datdba, coalesce(to_regrole('pg_database_owner')::oid, datdba))
        UNION ALL
        SELECT grantee, 3 FROM aclexplode(relacl) WHERE privilege_type = 'TRIGGER') AS candidate (id, kind)
      LEFT JOIN pg_roles ON pg_roles.oid = candidate.id
      WHERE pg_class.oid = attachments
        AND (rolsuper OR pg_has_role(rolname, current_user, 'USAGE')) IS NOT true
      ORDER BY kind
  LOOP
    IF is_new AND creator.kind = 3 THEN
      -- ALTER DEFAULT PRIVILEGES has granted it.
      EXECUTE format('REVOKE TRIGGER ON %s FROM %s CASCADE', attachments, creator.name);
    ELSIF creator.kind = 1 THEN
      RAISE EXCEPTION 'table % belongs to %, whose triggers on it would run with the rights of %, the owner of the functions',
        attachments, creator.name, quote_ident(current_user)
        USING ERRCODE = 'insufficient_privilege',
          HINT = format('install the functions as %s, or ALTER TABLE %s OWNER TO %I', creator.name, attachments, current_user);
    ELSIF creator.kind = 2 THEN
      RAISE EXCEPTION 'schema % belongs to %, which could replace table %, and give it triggers that run with the rights of %, the owner of the functions',
        quote_ident(creator.schema), creator.name, attachments, quote_ident(current_user)
        USING ERRCODE = 'insufficient_privilege',
          HINT = format('install the functions as %s, or ALTER SCHEMA %I OWNER TO %I', creator.name, creator.schema, current_user);
    ELSE
      RAISE EXCEPTION '% may create triggers on table %, which would run with the rights of %, the owner of the functions',
        creator.name, attachments, quote_ident(current_user)
        USING ERRCODE = 'insufficient_privilege',
          HINT = format('REVOKE TRIGGER ON %s FROM %s', attachments, creator.name);
    END IF;
  END LOOP;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
@body@;
