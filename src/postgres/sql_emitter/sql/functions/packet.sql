-- The event and its arguments: `[event, ...args]`.
CREATE OR REPLACE FUNCTION @schema@.packet(event text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  RETURN CASE jsonb_typeof(args)
      WHEN 'array' THEN jsonb_build_array(event) || args
      ELSE jsonb_build_array(event, args)
    END;
END
@body@;
