DO @outer@
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
  attachments regclass := pg_catalog.to_regclass(@table_name@);
  name text;
  name_json text;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  SELECT format('%I.%I', nspname, relname) INTO STRICT name
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = attachments;
  -- Without a dollar sign, which could end the text in which the function quotes it.
  name_json := replace(to_json(name)::text, '$', E'\\u0024');
  EXECUTE @create@ || quote_literal(concat(
@parts@));
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
@outer@;
