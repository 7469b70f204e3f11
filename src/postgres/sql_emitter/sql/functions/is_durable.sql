-- Whether an event is durable: a volatile one cannot be.
CREATE OR REPLACE FUNCTION @schema@.is_durable(durable boolean, opts jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  IF durable AND opts -> 'flags' -> 'volatile' IS NOT NULL THEN
    RAISE EXCEPTION 'a volatile event cannot be durable' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN durable IS TRUE;
END
@body@;
