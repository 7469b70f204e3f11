-- An event for clients. An array is the list of its arguments; any other value is its only argument.
CREATE OR REPLACE FUNCTION @schema@.emit(
  event text,
  args jsonb DEFAULT '[]',
  rooms text[] DEFAULT '{}',
  except_rooms text[] DEFAULT '{}',
  namespace text DEFAULT '/',
  volatile boolean DEFAULT false,
  compress boolean DEFAULT NULL,
  durable boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS @body@
DECLARE
  done boolean;
BEGIN
  done := @schema@.broadcast(event, args,
    @schema@.target(rooms, except_rooms, @schema@.flags(volatile, compress)), namespace, durable);
END
@body@;
