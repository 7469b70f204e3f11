-- An event for the clients of a namespace that `opts` names.
CREATE OR REPLACE FUNCTION @schema@.broadcast(event text, args jsonb, opts jsonb, namespace text) RETURNS boolean
LANGUAGE plpgsql
AS @body@
BEGIN
  RETURN @schema@.send(3, namespace, jsonb_build_object('opts', opts, 'packet',
    jsonb_build_object('type', 2, 'data', @schema@.packet(@schema@.client_event(event), args))));
END
@body@;
