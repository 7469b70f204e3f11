-- Sends a message, whose data is in msgpack, through the attachment table. The notification names the row. That of a durable
-- event begins with its channel, by which nodes that were away find it. The name of the table is fixed at the installation:
-- whoever could change it would run statements with the rights of the functions' owner.
CREATE OR REPLACE FUNCTION @schema@.attach(kind int, channel text, data bytea, durable boolean) RETURNS boolean
LANGUAGE plpgsql
AS @body@
DECLARE
  namespace text := substr(channel, @namespace_at@);
  attachment text;
  channel_name bytea := convert_to(channel, 'UTF8');
  -- A map of five: "uid": "emitter", "nsp", "type", "source": "_sio_adapter", "data". The workers of a Node cluster ignore
  -- messages without that source.
  head bytea := E'\\x85';
BEGIN
  IF durable THEN
    -- A map of six: "channel" before them. Its length has a byte of its own, however short it is.
    head := E'\\x86a76368616e6e656cd9'::bytea || set_byte(E'\\x00', 0, octet_length(channel_name)) || channel_name;
  END IF;
  INSERT INTO @attachments@ (payload)
    VALUES (head || E'\\xa3756964a7656d6974746572a36e7370'::bytea || @schema@.msgpack_utf8(convert_to(namespace, 'UTF8'))
      || E'\\xa474797065'::bytea || set_byte(E'\\x00', 0, kind)
      || E'\\xa6736f75726365ac5f73696f5f61646170746572a464617461'::bytea || data)
    RETURNING id::text INTO STRICT attachment;
  PERFORM pg_notify(channel, '{"uid":"emitter","nsp":' || to_json(namespace)::text || ',"type":' || kind
    || ',"attachmentId":"' || attachment || '"}');
  RETURN true;
END
@body@;
