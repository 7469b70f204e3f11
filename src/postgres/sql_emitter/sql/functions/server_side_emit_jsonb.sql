-- An event for the servers themselves. An array is the list of its arguments; any other value is its only argument.
CREATE OR REPLACE FUNCTION @schema@.server_side_emit(event text, args jsonb DEFAULT '[]', namespace text DEFAULT '/') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS @body@
DECLARE
  done boolean;
BEGIN
  done := @schema@.send(9, namespace, jsonb_build_object('packet',
    @schema@.packet(@schema@.event_name(event, '{connect,connection,new_namespace}'), args)));
END
@body@;
