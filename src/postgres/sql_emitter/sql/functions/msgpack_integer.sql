-- An integer in msgpack.
CREATE OR REPLACE FUNCTION @schema@.msgpack_integer(value bigint) RETURNS bytea
LANGUAGE sql STABLE
AS @body@
  SELECT CASE
      WHEN value BETWEEN 0 AND 127 THEN set_byte(E'\\x00', 0, value::int)
      WHEN value BETWEEN -32 AND -1 THEN set_byte(E'\\x00', 0, 256 + value::int)
      WHEN value BETWEEN -32768 AND 32767 THEN E'\\xd1'::bytea || int2send(value::int2)
      WHEN value BETWEEN -2147483648 AND 2147483647 THEN E'\\xd2'::bytea || int4send(value::int)
      ELSE E'\\xd3'::bytea || int8send(value)
    END
@body@;
