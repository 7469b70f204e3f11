-- Makes sockets leave rooms.
CREATE OR REPLACE FUNCTION @schema@.leave(
  leave_rooms text[],
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/'
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS @body@
DECLARE
  done boolean;
BEGIN
  done := @schema@.send(5, namespace, jsonb_build_object('opts', @schema@.target(rooms, except_rooms, '{}'),
    'rooms', @schema@.room_names('leave_rooms', leave_rooms)));
END
@body@;
