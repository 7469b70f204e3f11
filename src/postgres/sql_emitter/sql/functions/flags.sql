-- A flag that is not set does not travel.
CREATE OR REPLACE FUNCTION @schema@.flags(volatile boolean, compress boolean) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  RETURN jsonb_strip_nulls(jsonb_build_object('volatile', nullif(volatile, false), 'compress', compress));
END
@body@;
