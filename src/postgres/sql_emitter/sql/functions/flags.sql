-- How an event is delivered. A flag that is not set does not travel.
CREATE OR REPLACE FUNCTION @schema@.flags(volatile boolean, compress boolean) RETURNS jsonb
LANGUAGE sql STABLE
AS @body@
  SELECT jsonb_strip_nulls(jsonb_build_object('volatile', nullif(volatile, false), 'compress', compress))
@body@;
