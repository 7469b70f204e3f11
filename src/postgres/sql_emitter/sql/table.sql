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
    SELECT coalesce(quote_ident(rolname), 'PUBLIC') AS name, is_owner
      FROM pg_class
      CROSS JOIN LATERAL (SELECT relowner, true
        UNION ALL
        SELECT grantee, false FROM aclexplode(relacl) WHERE privilege_type = 'TRIGGER') AS candidate (id, is_owner)
      LEFT JOIN pg_roles ON pg_roles.oid = candidate.id
      WHERE pg_class.oid = attachments
        AND (rolsuper OR pg_has_role(rolname, current_user, 'USAGE')) IS NOT true
      ORDER BY is_owner DESC
  LOOP
    IF is_new THEN
      -- ALTER DEFAULT PRIVILEGES has granted it.
      EXECUTE format('REVOKE TRIGGER ON %s FROM %s CASCADE', attachments, creator.name);
    ELSIF creator.is_owner THEN
      RAISE EXCEPTION 'table % belongs to %, whose triggers on it would run with the rights of %, the owner of the functions',
        attachments, creator.name, quote_ident(current_user)
        USING ERRCODE = 'insufficient_privilege',
          HINT = format('install the functions as %s, or ALTER TABLE %s OWNER TO %I', creator.name, attachments, current_user);
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
