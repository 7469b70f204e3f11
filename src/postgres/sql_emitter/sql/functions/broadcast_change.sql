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
  done boolean;
  -- Errors begin with it. An EXCEPTION block could add it as well, but is a subtransaction for each row. More than 64 of them
  -- that write to the attachment table slow down every snapshot of the server.
  origin text := set_config('pgio.trigger',
    format('trigger %I on %I.%I: ', TG_NAME, TG_TABLE_SCHEMA, TG_TABLE_NAME), true);
BEGIN
  IF TG_WHEN <> 'AFTER' OR TG_LEVEL <> 'ROW' THEN
    RAISE EXCEPTION '%it has to be an AFTER trigger FOR EACH ROW', origin USING ERRCODE = 'trigger_protocol_violated';
  ELSIF TG_NARGS NOT BETWEEN 2 AND 4 OR TG_ARGV[3] <> 'durable' THEN
    RAISE EXCEPTION '%its arguments have to be a room template, an event template, and perhaps a namespace and the word durable',
      origin USING ERRCODE = 'trigger_protocol_violated';
  END IF;
  -- to_jsonb calls casts to json, and a cast of another role would run with the rights of this function.
  IF EXISTS (SELECT FROM pg_cast WHERE casttarget = 'json'::regtype AND castfunc >= 16384) THEN
    IF EXISTS (SELECT FROM pg_cast JOIN pg_proc ON pg_proc.oid = castfunc JOIN pg_roles ON pg_roles.oid = proowner
        WHERE casttarget = 'json'::regtype AND NOT rolsuper AND rolname <> current_user) THEN
      RAISE EXCEPTION '%there is a cast to json that a role without superuser rights has made', origin
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
  origin := set_config('pgio.trigger', '', true);
  RETURN NULL;
END
@body@;
