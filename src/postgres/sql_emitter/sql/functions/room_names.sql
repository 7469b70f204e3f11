-- The list of rooms, once it is safe to send. To take a NULL for "no room" would reach every client.
CREATE OR REPLACE FUNCTION @schema@.room_names(argument text, rooms text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  IF rooms IS NULL OR array_ndims(rooms) > 1 OR array_position(rooms, NULL) IS NOT NULL THEN
    IF rooms IS NULL THEN
      RAISE EXCEPTION '% is NULL; an empty array means every client', argument USING ERRCODE = 'null_value_not_allowed';
    ELSIF array_ndims(rooms) > 1 THEN
      RAISE EXCEPTION '% has more than one dimension', argument USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RAISE EXCEPTION '% holds a NULL', argument USING ERRCODE = 'null_value_not_allowed';
  END IF;
  RETURN to_jsonb(rooms);
END
@body@;
