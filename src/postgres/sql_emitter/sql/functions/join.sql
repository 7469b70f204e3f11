-- Makes sockets join rooms.
CREATE OR REPLACE FUNCTION @schema@.join(
  join_rooms text[],
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/'
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS @body@
DECLARE
  done boolean;
BEGIN
  done := @schema@.send(4, namespace, jsonb_build_object('opts', @schema@.target(rooms, except_rooms, '{}'),
    'rooms', @schema@.room_names('join_rooms', join_rooms)));
END
@body@;
