-- An object or array in msgpack, each level of it by a call.
CREATE OR REPLACE FUNCTION @schema@.msgpack_deep(document jsonb) RETURNS bytea
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  RETURN @msgpack_level@;
END
@body@;
