-- Functions with which any database client, or a trigger, emits to the Socket.IO clients of a cluster.
-- Written by `pgio sql print`; version 1. For PostgreSQL 12 and later, without an extension.
--
-- Run this file in one transaction. It may run any number of times: it replaces the functions of an older version,
-- and keeps the privileges that were granted on them.

-- The schema. Whoever can create objects in it could act with the rights of the functions' owner.
DO $pgio$
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
  intruder text;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF current_setting('server_version_num')::int < 120000 THEN
    RAISE EXCEPTION 'the functions need PostgreSQL 12 or later' USING ERRCODE = 'feature_not_supported';
  END IF;
  IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'socket_io') THEN
    EXECUTE format('CREATE SCHEMA %I', 'socket_io');
    EXECUTE format('COMMENT ON SCHEMA %I IS %L', 'socket_io', 'pgio sql: functions that emit to the clients of a Socket.IO cluster');
  END IF;
  SELECT coalesce(rolname, 'PUBLIC') INTO intruder
    FROM (SELECT nspowner FROM pg_namespace WHERE nspname = 'socket_io'
      UNION ALL
      SELECT grantee FROM pg_namespace, aclexplode(nspacl)
        WHERE nspname = 'socket_io' AND privilege_type = 'CREATE') AS creator (id)
    CROSS JOIN pg_database
    LEFT JOIN pg_roles
      ON pg_roles.oid = CASE creator.id WHEN to_regrole('pg_database_owner') THEN datdba ELSE creator.id END
    WHERE datname = current_database() AND (rolname IS NULL OR NOT (rolname = current_user OR rolsuper))
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% may create objects in schema %, and could act there with the rights of %: choose another schema',
      intruder, 'socket_io', current_user USING ERRCODE = 'insufficient_privilege';
  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
$pgio$;

-- The attachment table, for messages that hold binary or are too large for a notification.
DO $pgio$
BEGIN
  IF pg_catalog.to_regclass('socket_io_attachments') IS NULL THEN
    CREATE TABLE socket_io_attachments (id bigserial UNIQUE, created_at timestamptz DEFAULT now(), payload bytea);
    CREATE INDEX ON socket_io_attachments (created_at);
  END IF;
END
$pgio$;

-- What the functions were installed with. `pgio sql check` and `pgio doctor` read it.
CREATE TABLE IF NOT EXISTS "socket_io".settings (name text PRIMARY KEY, value text NOT NULL);
COMMENT ON TABLE "socket_io".settings IS 'pgio sql: settings';
REVOKE ALL ON "socket_io".settings FROM PUBLIC;
INSERT INTO "socket_io".settings (name, value)
  SELECT 'table_name', pg_catalog.format('%I.%I', nspname, relname)
    FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_class.oid = pg_catalog.to_regclass('socket_io_attachments')
  UNION ALL VALUES
    ('version', '1'), ('channel_prefix', 'socket.io'), ('payload_threshold', '8000')
  ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- Functions of another version that only these functions call: CREATE OR REPLACE could not change the type of their results.
DO $pgio$
DECLARE
  caller_path text := pg_catalog.current_setting('search_path');
  internal regprocedure;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR internal IN
    SELECT oid FROM pg_proc
      WHERE pronamespace = '"socket_io"'::regnamespace AND NOT prosecdef
        AND obj_description(oid, 'pg_proc') LIKE 'pgio sql %'
        AND obj_description(oid, 'pg_proc') <> 'pgio sql 1'
  LOOP
    EXECUTE format('DROP FUNCTION %s', internal);
  END LOOP;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
$pgio$;

-- An event for clients. An array is the list of its arguments; any other value is its only argument.
CREATE OR REPLACE FUNCTION "socket_io".emit(
  event text,
  args jsonb DEFAULT '[]',
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/',
  volatile boolean DEFAULT false,
  compress boolean DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
DECLARE
  done boolean;
BEGIN
  done := "socket_io".broadcast(event, args,
    "socket_io".target(rooms, except_rooms, "socket_io".flags(volatile, compress)), namespace);
END
$pgio$;
COMMENT ON FUNCTION "socket_io".emit(text, jsonb, text[], text[], text, boolean, boolean) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".emit(text, jsonb, text[], text[], text, boolean, boolean) FROM PUBLIC;

-- The same with arguments as JSON text. A literal, or a driver's parameter of unknown type, comes here.
CREATE OR REPLACE FUNCTION "socket_io".emit(
  event text,
  args text,
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/',
  volatile boolean DEFAULT false,
  compress boolean DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
DECLARE
  done boolean;
BEGIN
  done := "socket_io".broadcast(event, args::jsonb,
    "socket_io".target(rooms, except_rooms, "socket_io".flags(volatile, compress)), namespace);
END
$pgio$;
COMMENT ON FUNCTION "socket_io".emit(text, text, text[], text[], text, boolean, boolean) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".emit(text, text, text[], text[], text, boolean, boolean) FROM PUBLIC;

-- An event for clients whose only argument is binary.
CREATE OR REPLACE FUNCTION "socket_io".emit(
  event text,
  args bytea,
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/',
  volatile boolean DEFAULT false,
  compress boolean DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
DECLARE
  opts jsonb := "socket_io".target(rooms, except_rooms, "socket_io".flags(volatile, compress));
  done boolean;
BEGIN
  IF args IS NULL THEN
    done := "socket_io".broadcast(event, NULL, opts, namespace);
  ELSE
    -- A map of two: "opts", and "packet", a map of two: "type": 2, "data".
    done := "socket_io".attach(3, "socket_io".channel(namespace),
      E'\\x82a46f707473'::bytea || "socket_io".msgpack_deep(opts) || E'\\xa67061636b657482a47479706502a464617461'::bytea
        || "socket_io".msgpack_packet("socket_io".client_event(event), args));
  END IF;
END
$pgio$;
COMMENT ON FUNCTION "socket_io".emit(text, bytea, text[], text[], text, boolean, boolean) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".emit(text, bytea, text[], text[], text, boolean, boolean) FROM PUBLIC;

-- Makes sockets join rooms.
CREATE OR REPLACE FUNCTION "socket_io".join(
  join_rooms text[],
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/'
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
DECLARE
  done boolean;
BEGIN
  done := "socket_io".send(4, namespace, jsonb_build_object('opts', "socket_io".target(rooms, except_rooms),
    'rooms', "socket_io".room_names('join_rooms', join_rooms)));
END
$pgio$;
COMMENT ON FUNCTION "socket_io".join(text[], text[], text[], text) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".join(text[], text[], text[], text) FROM PUBLIC;

-- Makes sockets leave rooms.
CREATE OR REPLACE FUNCTION "socket_io".leave(
  leave_rooms text[],
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/'
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
DECLARE
  done boolean;
BEGIN
  done := "socket_io".send(5, namespace, jsonb_build_object('opts', "socket_io".target(rooms, except_rooms),
    'rooms', "socket_io".room_names('leave_rooms', leave_rooms)));
END
$pgio$;
COMMENT ON FUNCTION "socket_io".leave(text[], text[], text[], text) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".leave(text[], text[], text[], text) FROM PUBLIC;

-- Disconnects sockets from the namespace; with `close` their connection as well.
CREATE OR REPLACE FUNCTION "socket_io".disconnect(
  close boolean DEFAULT false,
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/'
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
DECLARE
  done boolean;
BEGIN
  done := "socket_io".send(6, namespace, jsonb_build_object('opts', "socket_io".target(rooms, except_rooms),
    'close', coalesce(close, false)));
END
$pgio$;
COMMENT ON FUNCTION "socket_io".disconnect(boolean, text[], text[], text) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".disconnect(boolean, text[], text[], text) FROM PUBLIC;

-- An event for the servers themselves. An array is the list of its arguments; any other value is its only argument.
CREATE OR REPLACE FUNCTION "socket_io".server_side_emit(event text, args jsonb DEFAULT '[]', namespace text DEFAULT '/') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
DECLARE
  done boolean;
BEGIN
  done := "socket_io".send(9, namespace, jsonb_build_object('packet',
    "socket_io".packet("socket_io".event_name(event, '{connect,connection,new_namespace}'), args)));
END
$pgio$;
COMMENT ON FUNCTION "socket_io".server_side_emit(text, jsonb, text) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".server_side_emit(text, jsonb, text) FROM PUBLIC;

-- The same with arguments as JSON text. A literal, or a driver's parameter of unknown type, comes here.
CREATE OR REPLACE FUNCTION "socket_io".server_side_emit(event text, args text, namespace text DEFAULT '/') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
DECLARE
  done boolean;
BEGIN
  done := "socket_io".send(9, namespace, jsonb_build_object('packet',
    "socket_io".packet("socket_io".event_name(event, '{connect,connection,new_namespace}'), args::jsonb)));
END
$pgio$;
COMMENT ON FUNCTION "socket_io".server_side_emit(text, text, text) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".server_side_emit(text, text, text) FROM PUBLIC;

-- An event for the servers themselves whose only argument is binary.
CREATE OR REPLACE FUNCTION "socket_io".server_side_emit(event text, args bytea, namespace text DEFAULT '/') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
DECLARE
  done boolean;
BEGIN
  IF args IS NULL THEN
    PERFORM "socket_io".server_side_emit(event, NULL::jsonb, namespace);
  ELSE
    -- A map of one: "packet".
    done := "socket_io".attach(9, "socket_io".channel(namespace), E'\\x81a67061636b6574'::bytea
      || "socket_io".msgpack_packet("socket_io".event_name(event, '{connect,connection,new_namespace}'), args));
  END IF;
END
$pgio$;
COMMENT ON FUNCTION "socket_io".server_side_emit(text, bytea, text) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".server_side_emit(text, bytea, text) FROM PUBLIC;

-- A trigger: AFTER INSERT, UPDATE or DELETE, FOR EACH ROW, it emits the change to the clients in a room.
--   EXECUTE FUNCTION broadcast_change(room_template, event_template [, namespace])
-- A template is filled with values of the new row, or of the deleted one; a NULL there skips the row. The empty room
-- template means every client.
CREATE OR REPLACE FUNCTION "socket_io".broadcast_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgio$
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
  ELSIF TG_NARGS NOT IN (2, 3) THEN
    RAISE EXCEPTION 'its arguments have to be a room template, an event template, and perhaps a namespace'
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
  room := "socket_io".fill_template(TG_ARGV[0], coalesce(new_row, old_row), names);
  event := "socket_io".fill_template(TG_ARGV[1], coalesce(new_row, old_row), names);
  IF room IS NOT NULL AND event IS NOT NULL THEN
    done := "socket_io".broadcast(event, names || jsonb_build_object('record', new_row, 'old_record', old_row),
      "socket_io".target(CASE TG_ARGV[0] WHEN '' THEN '{}' ELSE ARRAY[room] END, '{}'),
      CASE TG_NARGS WHEN 3 THEN TG_ARGV[2] ELSE '/' END);
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
  RAISE EXCEPTION 'trigger % on %.%: %',
    quote_ident(TG_NAME), quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME), message
    USING ERRCODE = state, DETAIL = rtrim(format('Its templates are %L and %L. %s', TG_ARGV[0], TG_ARGV[1], detail));
END
$pgio$;
COMMENT ON FUNCTION "socket_io".broadcast_change() IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".broadcast_change() FROM PUBLIC;

-- An event for the clients of a namespace that `opts` names.
CREATE OR REPLACE FUNCTION "socket_io".broadcast(event text, args jsonb, opts jsonb, namespace text) RETURNS boolean
LANGUAGE plpgsql
AS $pgio$
BEGIN
  RETURN "socket_io".send(3, namespace, jsonb_build_object('opts', opts, 'packet',
    jsonb_build_object('type', 2, 'data', "socket_io".packet("socket_io".client_event(event), args))));
END
$pgio$;
COMMENT ON FUNCTION "socket_io".broadcast(text, jsonb, jsonb, text) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".broadcast(text, jsonb, jsonb, text) FROM PUBLIC;

-- Sends a message: in the notification, or from the payload threshold on through the attachment table. There are few
-- expressions here and in what it calls, as each has to be prepared once in a transaction; for the same reason it returns
-- true, which an assignment takes, where PERFORM would run a query.
CREATE OR REPLACE FUNCTION "socket_io".send(kind int, namespace text, data jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $pgio$
DECLARE
  channel text := "socket_io".channel(namespace);
  sent bigint;
  message text;
BEGIN
  -- JSON text has a quarter of the bytes of its jsonb at least, so that a large document need not be measured.
  IF pg_column_size(data) < 65536 THEN
    -- Postgres delivers identical notifications of one transaction only once. The setting counts those of this
    -- transaction, and insignificant whitespace writes the number in binary.
    sent := coalesce(nullif(current_setting('pgio.notifications', true), ''), '0')::bigint;
    message := '{"uid":"emitter","nsp":' || to_json(substr(channel, 11))::text || ',"type":' || kind
      || ',"data":' || data::text || '}' || translate(ltrim(sent::bit(64)::text, '0'), '01', E' \t');
    IF octet_length(message) < 8000 THEN
      RETURN set_config('pgio.notifications', (sent + 1)::text, true) IS NOT NULL
        AND pg_notify(channel, message) IS NOT NULL;
    END IF;
  END IF;
  RETURN "socket_io".attach(kind, channel, "socket_io".msgpack(data));
END
$pgio$;
COMMENT ON FUNCTION "socket_io".send(integer, text, jsonb) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".send(integer, text, jsonb) FROM PUBLIC;

-- Sends a message, whose data is in msgpack, through the attachment table. The notification names the row.
CREATE OR REPLACE FUNCTION "socket_io".attach(kind int, channel text, data bytea) RETURNS boolean
LANGUAGE plpgsql
AS $pgio$
DECLARE
  namespace text := substr(channel, 11);
  table_name text;
  attachment text;
BEGIN
  SELECT value INTO STRICT table_name FROM "socket_io".settings WHERE name = 'table_name';
  -- A map of four: "uid": "emitter", "nsp", "type", "data".
  EXECUTE format('INSERT INTO %s (payload) VALUES ($1) RETURNING id::pg_catalog.text', table_name) INTO STRICT attachment
    USING E'\\x84a3756964a7656d6974746572a36e7370'::bytea || "socket_io".msgpack_utf8(convert_to(namespace, 'UTF8'))
      || E'\\xa474797065'::bytea || set_byte(E'\\x00', 0, kind) || E'\\xa464617461'::bytea || data;
  PERFORM pg_notify(channel, '{"uid":"emitter","nsp":' || to_json(namespace)::text || ',"type":' || kind
    || ',"attachmentId":"' || attachment || '"}');
  RETURN true;
END
$pgio$;
COMMENT ON FUNCTION "socket_io".attach(integer, text, bytea) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".attach(integer, text, bytea) FROM PUBLIC;

-- The channel of a namespace. pg_notify takes 63 bytes; LISTEN cuts a longer name off in silence.
CREATE OR REPLACE FUNCTION "socket_io".channel(namespace text) RETURNS text
LANGUAGE plpgsql STABLE
AS $pgio$
DECLARE
  channel text := 'socket.io' || '#' || CASE WHEN starts_with(namespace, '/') THEN '' ELSE '/' END || namespace;
BEGIN
  IF octet_length(channel) <= 63 THEN
    RETURN channel;
  ELSIF channel IS NULL THEN
    RAISE EXCEPTION 'the namespace is NULL' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  RAISE EXCEPTION 'namespace "%" cannot be used: its channel "%" has % bytes, and Postgres takes 63',
    namespace, channel, octet_length(channel) USING ERRCODE = 'name_too_long';
END
$pgio$;
COMMENT ON FUNCTION "socket_io".channel(text) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".channel(text) FROM PUBLIC;

-- Which sockets a message is for, and how it is delivered: `opts` of the protocol.
CREATE OR REPLACE FUNCTION "socket_io".target(rooms text[], except_rooms text[], flags jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $pgio$
BEGIN
  RETURN jsonb_build_object(
    'rooms', "socket_io".room_names('rooms', rooms),
    'except', "socket_io".room_names('except_rooms', except_rooms),
    'flags', flags);
END
$pgio$;
COMMENT ON FUNCTION "socket_io".target(text[], text[], jsonb) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".target(text[], text[], jsonb) FROM PUBLIC;

-- The list of rooms, once it is safe to send. To take a NULL for "no room" would reach every client.
CREATE OR REPLACE FUNCTION "socket_io".room_names(argument text, rooms text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $pgio$
BEGIN
  IF rooms IS NULL OR array_ndims(rooms) > 1 OR array_position(rooms, NULL) IS NOT NULL THEN
    IF rooms IS NULL THEN
      RAISE EXCEPTION '% is NULL; an empty array means every client', argument USING ERRCODE = 'null_value_not_allowed';
    ELSIF array_ndims(rooms) > 1 THEN
      RAISE EXCEPTION '% has more than one dimension', argument USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RAISE EXCEPTION '% holds a NULL', argument USING ERRCODE = 'null_value_not_allowed';
  END IF;
  RETURN to_jsonb(rooms);
END
$pgio$;
COMMENT ON FUNCTION "socket_io".room_names(text, text[]) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".room_names(text, text[]) FROM PUBLIC;

-- How an event is delivered. A flag that is not set does not travel.
CREATE OR REPLACE FUNCTION "socket_io".flags(volatile boolean, compress boolean) RETURNS jsonb
LANGUAGE sql STABLE
AS $pgio$
  SELECT jsonb_strip_nulls(jsonb_build_object('volatile', nullif(volatile, false), 'compress', compress))
$pgio$;
COMMENT ON FUNCTION "socket_io".flags(boolean, boolean) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".flags(boolean, boolean) FROM PUBLIC;

-- The name of an event, once the application may use it.
CREATE OR REPLACE FUNCTION "socket_io".event_name(event text, reserved text[]) RETURNS text
LANGUAGE plpgsql STABLE
AS $pgio$
BEGIN
  IF event IS NULL OR event = ANY (reserved) THEN
    IF event IS NULL THEN
      RAISE EXCEPTION 'the event is NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    RAISE EXCEPTION 'event name "%" is reserved by Socket.IO', event USING ERRCODE = 'reserved_name';
  END IF;
  RETURN event;
END
$pgio$;
COMMENT ON FUNCTION "socket_io".event_name(text, text[]) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".event_name(text, text[]) FROM PUBLIC;

-- The name of an event for clients. A client keeps these for itself.
CREATE OR REPLACE FUNCTION "socket_io".client_event(event text) RETURNS text
LANGUAGE sql STABLE
AS $pgio$
  SELECT "socket_io".event_name(event,
    '{connect,connect_error,disconnect,disconnecting,newListener,removeListener}')
$pgio$;
COMMENT ON FUNCTION "socket_io".client_event(text) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".client_event(text) FROM PUBLIC;

-- The event and its arguments: `[event, ...args]`.
CREATE OR REPLACE FUNCTION "socket_io".packet(event text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $pgio$
BEGIN
  RETURN CASE jsonb_typeof(args)
      WHEN 'array' THEN jsonb_build_array(event) || args
      ELSE jsonb_build_array(event, args)
    END;
END
$pgio$;
COMMENT ON FUNCTION "socket_io".packet(text, jsonb) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".packet(text, jsonb) FROM PUBLIC;

-- Replaces each {name} of a template: {operation}, {schema} and {table} are those of the trigger, any other name is that
-- of a column. {{ and }} are braces. NULL where a value is.
CREATE OR REPLACE FUNCTION "socket_io".fill_template(template text, columns jsonb, trigger_names jsonb) RETURNS text
LANGUAGE plpgsql STABLE
AS $pgio$
DECLARE
  filled text := '';
  rest text := template;
  parts text[];
  part text;
  name text;
BEGIN
  LOOP
    -- What comes before the first brace, what begins there, and what comes after it.
    parts := regexp_match(rest, '^([^{}]*)([{][{]|[}][}]|[{][^{}]*[}]|[{}])(.*)$');
    IF parts IS NULL THEN
      RETURN filled || rest;
    END IF;
    filled := filled || parts[1];
    part := parts[2];
    rest := parts[3];
    IF part IN ('{{', '}}') THEN
      filled := filled || left(part, 1);
    ELSIF part IN ('{', '}') THEN
      RAISE EXCEPTION 'template "%" has a single "%"', template, part
        USING ERRCODE = 'syntax_error', DETAIL = 'A brace that is meant is written twice.';
    ELSE
      name := substr(part, 2, length(part) - 2);
      IF trigger_names -> name IS NOT NULL THEN
        filled := filled || (trigger_names ->> name);
      ELSIF columns -> name IS NOT NULL THEN
        filled := filled || (columns ->> name);
      ELSE
        RAISE EXCEPTION 'template "%" names "%", which is no column of the table', template, name
          USING ERRCODE = 'undefined_column';
      END IF;
    END IF;
  END LOOP;
END
$pgio$;
COMMENT ON FUNCTION "socket_io".fill_template(text, jsonb, jsonb) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".fill_template(text, jsonb, jsonb) FROM PUBLIC;

-- The head of what has many items or bytes: `wide` is the byte before 16 bits, and the next one that before 32.
CREATE OR REPLACE FUNCTION "socket_io".msgpack_wide(count bigint, wide int) RETURNS bytea
LANGUAGE plpgsql STABLE
AS $pgio$
BEGIN
  IF count < 65536 THEN
    RETURN set_byte(E'\\x00', 0, wide) || substr(int4send(count::int), 3);
  END IF;
  RETURN set_byte(E'\\x00', 0, wide + 1) || int4send(count::int);
END
$pgio$;
COMMENT ON FUNCTION "socket_io".msgpack_wide(bigint, integer) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".msgpack_wide(bigint, integer) FROM PUBLIC;

-- The head of an object or array with so many items. `fixed` is its byte for none, to which up to 15 are added. The planner
-- puts functions in plain SQL, such as this one, into the query itself.
CREATE OR REPLACE FUNCTION "socket_io".msgpack_head(items bigint, fixed int, wide int) RETURNS bytea
LANGUAGE sql STABLE
AS $pgio$
  SELECT CASE WHEN items < 16 THEN set_byte(E'\\x00', 0, fixed + items::int) ELSE "socket_io".msgpack_wide(items, wide) END
$pgio$;
COMMENT ON FUNCTION "socket_io".msgpack_head(bigint, integer, integer) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".msgpack_head(bigint, integer, integer) FROM PUBLIC;

-- Text, which is given in UTF-8, in msgpack.
CREATE OR REPLACE FUNCTION "socket_io".msgpack_utf8(utf8 bytea) RETURNS bytea
LANGUAGE sql STABLE
AS $pgio$
  SELECT CASE
      WHEN length(utf8) < 32 THEN set_byte(E'\\x00', 0, 160 + length(utf8))
      ELSE "socket_io".msgpack_wide(length(utf8), 218)
    END || utf8
$pgio$;
COMMENT ON FUNCTION "socket_io".msgpack_utf8(bytea) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".msgpack_utf8(bytea) FROM PUBLIC;

-- An integer in msgpack.
CREATE OR REPLACE FUNCTION "socket_io".msgpack_integer(value bigint) RETURNS bytea
LANGUAGE sql STABLE
AS $pgio$
  SELECT CASE
      WHEN value BETWEEN 0 AND 127 THEN set_byte(E'\\x00', 0, value::int)
      WHEN value BETWEEN -32 AND -1 THEN set_byte(E'\\x00', 0, 256 + value::int)
      WHEN value BETWEEN -32768 AND 32767 THEN E'\\xd1'::bytea || int2send(value::int2)
      WHEN value BETWEEN -2147483648 AND 2147483647 THEN E'\\xd2'::bytea || int4send(value::int)
      ELSE E'\\xd3'::bytea || int8send(value)
    END
$pgio$;
COMMENT ON FUNCTION "socket_io".msgpack_integer(bigint) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".msgpack_integer(bigint) FROM PUBLIC;

-- A number that is very large or very small, in msgpack: unsigned where it fits, else the nearest double.
CREATE OR REPLACE FUNCTION "socket_io".msgpack_odd_number(value numeric) RETURNS bytea
LANGUAGE plpgsql STABLE
AS $pgio$
BEGIN
  IF value = trunc(value) AND value BETWEEN 9223372036854775808 AND 18446744073709551615 THEN
    RETURN E'\\xcf'::bytea || int8send((value - 18446744073709551616)::bigint);
  -- The conversion fails for what a double cannot hold, where JavaScript reads infinity or 0.
  ELSIF abs(value) >= 1.797693134862315807937289714053e308 THEN
    RETURN E'\\xcb'::bytea || float8send(CASE WHEN value < 0 THEN '-infinity' ELSE 'infinity' END::float8);
  ELSIF abs(value) <= 2.4703282292062327208828439643411e-324 THEN
    RETURN E'\\xcb'::bytea || float8send(0);
  END IF;
  RETURN E'\\xcb'::bytea || float8send(value::float8);
END
$pgio$;
COMMENT ON FUNCTION "socket_io".msgpack_odd_number(numeric) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".msgpack_odd_number(numeric) FROM PUBLIC;

-- A number in msgpack: an integer where it is one, else the nearest double.
CREATE OR REPLACE FUNCTION "socket_io".msgpack_number(value numeric) RETURNS bytea
LANGUAGE sql STABLE
AS $pgio$
  SELECT CASE
      WHEN value = trunc(value) AND value BETWEEN -9223372036854775808 AND 9223372036854775807
        THEN "socket_io".msgpack_integer(value::bigint)
      WHEN abs(value) BETWEEN 1e-300 AND 1e18 THEN E'\\xcb'::bytea || float8send(value::float8)
      ELSE "socket_io".msgpack_odd_number(value)
    END
$pgio$;
COMMENT ON FUNCTION "socket_io".msgpack_number(numeric) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".msgpack_number(numeric) FROM PUBLIC;

-- An object or array in msgpack, each level of it by a call.
CREATE OR REPLACE FUNCTION "socket_io".msgpack_deep(document jsonb) RETURNS bytea
LANGUAGE plpgsql STABLE
AS $pgio$
BEGIN
  RETURN (
SELECT CASE jsonb_typeof(document)
      WHEN 'object' THEN "socket_io".msgpack_head(count(*), 128, 222)
      ELSE "socket_io".msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE "socket_io".msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN "socket_io".msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN "socket_io".msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE "socket_io".msgpack_deep(item)
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(document) WHEN 'object' THEN document END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(document) WHEN 'array' THEN document END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS part1
);
END
$pgio$;
COMMENT ON FUNCTION "socket_io".msgpack_deep(jsonb) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".msgpack_deep(jsonb) FROM PUBLIC;

-- A JSON document in msgpack. One query writes eight levels of it, as a call for each object would be several times as
-- slow. What is deeper than that is written by calls. Just-in-time compilation would take longer than all the rest.
CREATE OR REPLACE FUNCTION "socket_io".msgpack(document jsonb) RETURNS bytea
LANGUAGE plpgsql STABLE SET jit = off SET plan_cache_mode = force_generic_plan
AS $pgio$
BEGIN
  IF jsonb_typeof(document) IN ('object', 'array') THEN
    RETURN (
SELECT CASE jsonb_typeof(document)
      WHEN 'object' THEN "socket_io".msgpack_head(count(*), 128, 222)
      ELSE "socket_io".msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE "socket_io".msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN "socket_io".msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN "socket_io".msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE (
SELECT CASE jsonb_typeof(part1.item)
      WHEN 'object' THEN "socket_io".msgpack_head(count(*), 128, 222)
      ELSE "socket_io".msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE "socket_io".msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN "socket_io".msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN "socket_io".msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE (
SELECT CASE jsonb_typeof(part2.item)
      WHEN 'object' THEN "socket_io".msgpack_head(count(*), 128, 222)
      ELSE "socket_io".msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE "socket_io".msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN "socket_io".msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN "socket_io".msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE (
SELECT CASE jsonb_typeof(part3.item)
      WHEN 'object' THEN "socket_io".msgpack_head(count(*), 128, 222)
      ELSE "socket_io".msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE "socket_io".msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN "socket_io".msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN "socket_io".msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE (
SELECT CASE jsonb_typeof(part4.item)
      WHEN 'object' THEN "socket_io".msgpack_head(count(*), 128, 222)
      ELSE "socket_io".msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE "socket_io".msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN "socket_io".msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN "socket_io".msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE (
SELECT CASE jsonb_typeof(part5.item)
      WHEN 'object' THEN "socket_io".msgpack_head(count(*), 128, 222)
      ELSE "socket_io".msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE "socket_io".msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN "socket_io".msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN "socket_io".msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE (
SELECT CASE jsonb_typeof(part6.item)
      WHEN 'object' THEN "socket_io".msgpack_head(count(*), 128, 222)
      ELSE "socket_io".msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE "socket_io".msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN "socket_io".msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN "socket_io".msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE (
SELECT CASE jsonb_typeof(part7.item)
      WHEN 'object' THEN "socket_io".msgpack_head(count(*), 128, 222)
      ELSE "socket_io".msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE "socket_io".msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN "socket_io".msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN "socket_io".msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE "socket_io".msgpack_deep(item)
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(part7.item) WHEN 'object' THEN part7.item END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(part7.item) WHEN 'array' THEN part7.item END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS part8
)
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(part6.item) WHEN 'object' THEN part6.item END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(part6.item) WHEN 'array' THEN part6.item END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS part7
)
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(part5.item) WHEN 'object' THEN part5.item END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(part5.item) WHEN 'array' THEN part5.item END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS part6
)
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(part4.item) WHEN 'object' THEN part4.item END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(part4.item) WHEN 'array' THEN part4.item END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS part5
)
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(part3.item) WHEN 'object' THEN part3.item END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(part3.item) WHEN 'array' THEN part3.item END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS part4
)
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(part2.item) WHEN 'object' THEN part2.item END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(part2.item) WHEN 'array' THEN part2.item END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS part3
)
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(part1.item) WHEN 'object' THEN part1.item END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(part1.item) WHEN 'array' THEN part1.item END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS part2
)
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(document) WHEN 'object' THEN document END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(document) WHEN 'array' THEN document END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS part1
);
  END IF;
  RETURN substr("socket_io".msgpack_deep(jsonb_build_array(document)), 2);
END
$pgio$;
COMMENT ON FUNCTION "socket_io".msgpack(jsonb) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".msgpack(jsonb) FROM PUBLIC;

-- The event and its only argument, which is binary, in msgpack: `[event, bytes]`.
CREATE OR REPLACE FUNCTION "socket_io".msgpack_packet(event text, bytes bytea) RETURNS bytea
LANGUAGE plpgsql STABLE
AS $pgio$
BEGIN
  RETURN E'\\x92'::bytea || "socket_io".msgpack_utf8(convert_to(event, 'UTF8')) || CASE
      WHEN length(bytes) < 256 THEN E'\\xc4'::bytea || set_byte(E'\\x00', 0, length(bytes))
      ELSE "socket_io".msgpack_wide(length(bytes), 197)
    END || bytes;
END
$pgio$;
COMMENT ON FUNCTION "socket_io".msgpack_packet(text, bytea) IS 'pgio sql 1';
REVOKE ALL ON FUNCTION "socket_io".msgpack_packet(text, bytea) FROM PUBLIC;

-- A role that could execute a function of an older version may execute its successor. What has no successor goes.
DO $pgio$
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
      WHERE old.pronamespace = '"socket_io"'::regnamespace
        AND obj_description(old.oid, 'pg_proc') LIKE 'pgio sql %'
        AND obj_description(new.oid, 'pg_proc') = 'pgio sql 1'
        AND grantee NOT IN (0, old.proowner)
        AND NOT has_function_privilege(grantee, new.oid, 'EXECUTE')
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', granted.function, granted.role);
  END LOOP;
  FOR obsolete IN
    SELECT oid FROM pg_proc
      WHERE pronamespace = '"socket_io"'::regnamespace
        AND obj_description(oid, 'pg_proc') LIKE 'pgio sql %'
        AND obj_description(oid, 'pg_proc') <> 'pgio sql 1'
  LOOP
    EXECUTE format('DROP FUNCTION %s', obsolete);
  END LOOP;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END
$pgio$;
