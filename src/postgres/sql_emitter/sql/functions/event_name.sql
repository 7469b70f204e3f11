-- The name of an event, once the application may use it.
CREATE OR REPLACE FUNCTION @schema@.event_name(event text, reserved text[]) RETURNS text
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  IF event IS NULL OR event = ANY (reserved) THEN
    IF event IS NULL THEN
      RAISE EXCEPTION '%the event is NULL', @schema@.origin() USING ERRCODE = 'null_value_not_allowed';
    END IF;
    RAISE EXCEPTION '%event name "%" is reserved by Socket.IO', @schema@.origin(), event USING ERRCODE = 'reserved_name';
  END IF;
  RETURN event;
END
@body@;
