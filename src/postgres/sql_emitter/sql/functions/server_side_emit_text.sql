-- The same with arguments as JSON text. A literal, or a driver's parameter of unknown type, comes here.
CREATE OR REPLACE FUNCTION @schema@.server_side_emit(event text, args text, namespace text DEFAULT '/') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS @body@
DECLARE
  done boolean;
BEGIN
  done := @schema@.send(9, namespace, jsonb_build_object('packet',
    @schema@.packet(@schema@.event_name(event, '{connect,connection,new_namespace}'), args::jsonb)));
END
@body@;
