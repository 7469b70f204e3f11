-- A JSON document in msgpack. One query writes eight levels of it, as a call for each object would be several times as
-- slow. What is deeper than that is written by calls. Just-in-time compilation would take longer than all the rest.
CREATE OR REPLACE FUNCTION @schema@.msgpack(document jsonb) RETURNS bytea
LANGUAGE plpgsql STABLE SET jit = off SET plan_cache_mode = force_generic_plan
AS @body@
BEGIN
  IF jsonb_typeof(document) IN ('object', 'array') THEN
    RETURN @msgpack_levels@;
  END IF;
  RETURN substr(@schema@.msgpack_deep(jsonb_build_array(document)), 2);
END
@body@;
