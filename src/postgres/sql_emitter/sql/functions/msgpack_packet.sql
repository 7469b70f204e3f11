-- The event and its only argument, which is binary, in msgpack: `[event, bytes]`.
CREATE OR REPLACE FUNCTION @schema@.msgpack_packet(event text, bytes bytea) RETURNS bytea
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  RETURN E'\\x92'::bytea || @schema@.msgpack_utf8(convert_to(event, 'UTF8')) || CASE
      WHEN length(bytes) < 256 THEN E'\\xc4'::bytea || set_byte(E'\\x00', 0, length(bytes))
      ELSE @schema@.msgpack_wide(length(bytes), 197)
    END || bytes;
END
@body@;
