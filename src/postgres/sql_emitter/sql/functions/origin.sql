-- What a message of an error begins with: the trigger that is running, or nothing.
CREATE OR REPLACE FUNCTION @schema@.origin() RETURNS text
LANGUAGE sql STABLE
AS @body@
  SELECT coalesce(current_setting('pgio.trigger', true), '')
@body@;
