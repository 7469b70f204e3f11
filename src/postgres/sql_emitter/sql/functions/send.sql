-- Sends a message: in the notification, or from the payload threshold on through the attachment table. There are few
-- expressions here and in what it calls, as each has to be prepared once in a transaction; for the same reason it returns
-- true, which an assignment takes, where PERFORM would run a query.
CREATE OR REPLACE FUNCTION @schema@.send(kind int, namespace text, data jsonb) RETURNS boolean
LANGUAGE plpgsql
AS @body@
DECLARE
  channel text := @schema@.channel(namespace);
  sent bigint;
  message text;
BEGIN
  -- JSON text has a quarter of the bytes of its jsonb at least, so that a large document need not be measured.
  IF pg_column_size(data) < 65536 THEN
    -- Postgres delivers identical notifications of one transaction only once. The setting counts those of this
    -- transaction, and insignificant whitespace writes the number in binary.
    sent := coalesce(nullif(current_setting('pgio.notifications', true), ''), '0')::bigint;
    message := '{"uid":"emitter","nsp":' || to_json(substr(channel, @namespace_at@))::text || ',"type":' || kind
      || ',"source":"_sio_adapter","data":' || data::text || '}'
      || translate(ltrim(sent::bit(64)::text, '0'), '01', E' \t');
    IF octet_length(message) < @threshold@ THEN
      RETURN set_config('pgio.notifications', (sent + 1)::text, true) IS NOT NULL
        AND pg_notify(channel, message) IS NOT NULL;
    END IF;
  END IF;
  RETURN @schema@.attach(kind, channel, @schema@.msgpack(data), false);
END
@body@;
