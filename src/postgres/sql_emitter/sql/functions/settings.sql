-- The settings of this installation. `pgio sql check` and `pgio doctor` read them in the text of this function, in the
-- catalog, and never call it: in a schema of another role it could be any function.
CREATE OR REPLACE FUNCTION @schema@.settings() RETURNS jsonb
LANGUAGE sql STABLE
AS @body@
  SELECT $json$ {
    "channel_prefix": @prefix_json@,
    "table_name": @attachments_json@,
    "payload_threshold": @threshold@
  } $json$::jsonb
@body@;
