-- An event for clients whose only argument is binary.
CREATE OR REPLACE FUNCTION @schema@.emit(
  event text,
  args bytea,
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
  opts jsonb := @schema@.target(rooms, except_rooms, @schema@.flags(volatile, compress));
  done boolean;
BEGIN
  IF args IS NULL THEN
    done := @schema@.broadcast(event, NULL, opts, namespace, durable);
  ELSE
    -- A map of two: "opts", and "packet", a map of two: "type": 2, "data".
    done := @schema@.attach(3, @schema@.channel(namespace),
      E'\\x82a46f707473'::bytea || @schema@.msgpack_deep(opts) || E'\\xa67061636b657482a47479706502a464617461'::bytea
        || @schema@.msgpack_packet(@schema@.client_event(event), args), @schema@.is_durable(durable, opts));
  END IF;
END
@body@;
