-- Disconnects sockets from the namespace; with `close` their connection as well.
CREATE OR REPLACE FUNCTION @schema@.disconnect(
  close boolean DEFAULT false,
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/'
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS @body@
DECLARE
  done boolean;
BEGIN
  done := @schema@.send(6, namespace, jsonb_build_object('opts', @schema@.target(rooms, except_rooms, '{}'),
    'close', coalesce(close, false)));
END
@body@;
