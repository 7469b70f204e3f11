-- Which sockets a message is for, and how it is delivered: `opts` of the protocol.
CREATE OR REPLACE FUNCTION @schema@.target(rooms text[], except_rooms text[], flags jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  RETURN jsonb_build_object(
    'rooms', @schema@.room_names('rooms', rooms),
    'except', @schema@.room_names('except_rooms', except_rooms),
    'flags', flags);
END
@body@;
