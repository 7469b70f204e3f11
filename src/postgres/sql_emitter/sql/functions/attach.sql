-- Sends a message, whose data is in msgpack, through the attachment table. The notification names the row.
CREATE OR REPLACE FUNCTION @schema@.attach(kind int, channel text, data bytea) RETURNS boolean
LANGUAGE plpgsql
AS @body@
DECLARE
  namespace text := substr(channel, @namespace_at@);
  table_name text;
  attachment text;
BEGIN
  SELECT value INTO STRICT table_name FROM @schema@.settings WHERE name = 'table_name';
  -- A map of four: "uid": "emitter", "nsp", "type", "data".
  EXECUTE format('INSERT INTO %s (payload) VALUES ($1) RETURNING id::pg_catalog.text', table_name) INTO STRICT attachment
    USING E'\\x84a3756964a7656d6974746572a36e7370'::bytea || @schema@.msgpack_utf8(convert_to(namespace, 'UTF8'))
      || E'\\xa474797065'::bytea || set_byte(E'\\x00', 0, kind) || E'\\xa464617461'::bytea || data;
  PERFORM pg_notify(channel, '{"uid":"emitter","nsp":' || to_json(namespace)::text || ',"type":' || kind
    || ',"attachmentId":"' || attachment || '"}');
  RETURN true;
END
@body@;
