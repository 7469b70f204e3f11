-- The channel of a namespace. pg_notify takes 63 bytes; LISTEN cuts a longer name off in silence.
CREATE OR REPLACE FUNCTION @schema@.channel(namespace text) RETURNS text
LANGUAGE plpgsql STABLE
AS @body@
DECLARE
  channel text := @prefix@ || '#' || CASE WHEN starts_with(namespace, '/') THEN '' ELSE '/' END || namespace;
BEGIN
  IF octet_length(channel) <= 63 THEN
    RETURN channel;
  ELSIF channel IS NULL THEN
    RAISE EXCEPTION '%the namespace is NULL', @schema@.origin() USING ERRCODE = 'null_value_not_allowed';
  END IF;
  RAISE EXCEPTION '%namespace "%" cannot be used: its channel "%" has % bytes, and Postgres takes 63',
    @schema@.origin(), namespace, channel, octet_length(channel) USING ERRCODE = 'name_too_long';
END
@body@;
