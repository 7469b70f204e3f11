-- An event for the clients of a namespace that `opts` names. A durable one goes through the attachment table in any case.
CREATE OR REPLACE FUNCTION @schema@.broadcast(event text, args jsonb, opts jsonb, namespace text, durable boolean) RETURNS boolean
LANGUAGE plpgsql
AS @body@
DECLARE
  data jsonb := jsonb_build_object('opts', opts, 'packet',
    jsonb_build_object('type', 2, 'data', @schema@.packet(@schema@.client_event(event), args)));
BEGIN
  IF durable THEN
    RETURN @schema@.attach(3, @schema@.channel(namespace), @schema@.msgpack(data), @schema@.is_durable(durable, opts));
  END IF;
  RETURN @schema@.send(3, namespace, data);
END
@body@;
