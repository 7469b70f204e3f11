-- The name of an event for clients. A client keeps these for itself.
CREATE OR REPLACE FUNCTION @schema@.client_event(event text) RETURNS text
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  RETURN @schema@.event_name(event,
    '{connect,connect_error,disconnect,disconnecting,newListener,removeListener}');
END
@body@;
