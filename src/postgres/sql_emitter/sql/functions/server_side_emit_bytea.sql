-- An event for the servers themselves whose only argument is binary.
CREATE OR REPLACE FUNCTION @schema@.server_side_emit(event text, args bytea, namespace text DEFAULT '/') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS @body@
DECLARE
  done boolean;
BEGIN
  IF args IS NULL THEN
    PERFORM @schema@.server_side_emit(event, NULL::jsonb, namespace);
  ELSE
    -- A map of one: "packet".
    done := @schema@.attach(9, @schema@.channel(namespace), E'\\x81a67061636b6574'::bytea
      || @schema@.msgpack_packet(@schema@.event_name(event, '{connect,connection,new_namespace}'), args), false);
  END IF;
END
@body@;
