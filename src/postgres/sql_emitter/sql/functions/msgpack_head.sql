-- The head of an object or array with so many items. `fixed` is its byte for none, to which up to 15 are added. The planner
-- puts functions in plain SQL, such as this one, into the query itself.
CREATE OR REPLACE FUNCTION @schema@.msgpack_head(items bigint, fixed int, wide int) RETURNS bytea
LANGUAGE sql STABLE
AS @body@
  SELECT CASE WHEN items < 16 THEN set_byte(E'\\x00', 0, fixed + items::int) ELSE @schema@.msgpack_wide(items, wide) END
@body@;
