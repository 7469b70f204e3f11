-- The name of an event for clients. A client keeps these for itself.
CREATE OR REPLACE FUNCTION @schema@.client_event(event text) RETURNS text
LANGUAGE sql STABLE
AS @body@
  SELECT @schema@.event_name(event,
    '{connect,connect_error,disconnect,disconnecting,newListener,removeListener}')
@body@;
