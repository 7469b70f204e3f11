-- A trigger: AFTER INSERT, UPDATE or DELETE, FOR EACH ROW, it emits the change to the clients in a room.
--   EXECUTE FUNCTION broadcast_change(room_template, event_template [, namespace [, 'durable']])
-- A template is filled with values of the new row, or of the deleted one; a NULL there skips the row. The empty room
-- template means every client.
CREATE OR REPLACE FUNCTION @schema@.broadcast_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS @body@
DECLARE
  root regclass := pg_partition_root(TG_RELID);
  table_schema text := TG_TABLE_SCHEMA;
  table_name text := TG_TABLE_NAME;
  new_row jsonb;
  old_row jsonb;
  names jsonb;
  room text;
  event text;
  state text;
  message text;
  detail text;
  done boolean;
BEGIN
  IF TG_WHEN <> 'AFTER' OR TG_LEVEL <> 'ROW' THEN
    RAISE EXCEPTION 'it has to be an AFTER trigger FOR EACH ROW' USING ERRCODE = 'trigger_protocol_violated';
  ELSIF TG_NARGS NOT BETWEEN 2 AND 4 OR TG_ARGV[3] <> 'durable' THEN
    RAISE EXCEPTION 'its arguments have to be a room template, an event template, and perhaps a namespace and the word durable'
      USING ERRCODE = 'trigger_protocol_violated';
  END IF;
  -- to_jsonb calls casts to json, and a cast of another role would run with the rights of this function.
  IF EXISTS (SELECT FROM pg_cast WHERE casttarget = 'json'::regtype AND castfunc >= 16384) THEN
    IF EXISTS (SELECT FROM pg_cast JOIN pg_proc ON pg_proc.oid = castfunc JOIN pg_roles ON pg_roles.oid = proowner
        WHERE casttarget = 'json'::regtype AND NOT rolsuper AND rolname <> current_user) THEN
      RAISE EXCEPTION 'there is a cast to json that a role without superuser rights has made'
        USING ERRCODE = 'insufficient_privilege';
    END IF;
  END IF;
  IF root <> TG_RELID THEN
    SELECT nspname, relname INTO STRICT table_schema, table_name
      FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = root;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    new_row := to_jsonb(NEW);
  END IF;
  IF TG_OP <> 'INSERT' THEN
    old_row := to_jsonb(OLD);
  END IF;
  names := jsonb_build_object('operation', TG_OP, 'schema', table_schema, 'table', table_name);
  room := @schema@.fill_template(TG_ARGV[0], coalesce(new_row, old_row), names);
  event := @schema@.fill_template(TG_ARGV[1], coalesce(new_row, old_row), names);
  IF room IS NOT NULL AND event IS NOT NULL THEN
    done := @schema@.broadcast(event, names || jsonb_build_object('record', new_row, 'old_record', old_row),
      @schema@.target(CASE TG_ARGV[0] WHEN '' THEN '{}' ELSE ARRAY[room] END, '{}', '{}'),
      CASE WHEN TG_NARGS > 2 THEN TG_ARGV[2] ELSE '/' END, TG_NARGS = 4);
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
  RAISE EXCEPTION 'trigger % on %.%: %',
    quote_ident(TG_NAME), quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME), message
    USING ERRCODE = state, DETAIL = rtrim(format('Its templates are %L and %L. %s', TG_ARGV[0], TG_ARGV[1], detail));
END
@body@;
