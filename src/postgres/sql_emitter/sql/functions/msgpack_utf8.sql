-- Text, which is given in UTF-8, in msgpack.
CREATE OR REPLACE FUNCTION @schema@.msgpack_utf8(utf8 bytea) RETURNS bytea
LANGUAGE sql STABLE
AS @body@
  SELECT CASE
      WHEN length(utf8) < 32 THEN set_byte(E'\\x00', 0, 160 + length(utf8))
      ELSE @schema@.msgpack_wide(length(utf8), 218)
    END || utf8
@body@;
