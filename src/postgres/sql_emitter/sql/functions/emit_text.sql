-- The same with arguments as JSON text. A literal, or a driver's parameter of unknown type, comes here.
CREATE OR REPLACE FUNCTION @schema@.emit(
  event text,
  args text,
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
  done := @schema@.broadcast(event, args::jsonb,
    @schema@.target(rooms, except_rooms, @schema@.flags(volatile, compress)), namespace, durable);
END
@body@;
