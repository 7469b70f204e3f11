-- The head of what has many items or bytes: `wide` is the byte before 16 bits, and the next one that before 32.
CREATE OR REPLACE FUNCTION @schema@.msgpack_wide(count bigint, wide int) RETURNS bytea
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  IF count < 65536 THEN
    RETURN set_byte(E'\\x00', 0, wide) || substr(int4send(count::int), 3);
  END IF;
  RETURN set_byte(E'\\x00', 0, wide + 1) || int4send(count::int);
END
@body@;
