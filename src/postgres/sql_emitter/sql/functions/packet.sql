-- The event and its arguments: `[event, ...args]`.
CREATE OR REPLACE FUNCTION @schema@.packet(event text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  IF jsonb_typeof(args) = 'array' THEN
    RETURN jsonb_build_array(event) || args;
  END IF;
  RETURN jsonb_build_array(event, args);
END
@body@;
