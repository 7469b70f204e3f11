(
SELECT CASE jsonb_typeof(@value@)
      WHEN 'object' THEN @schema@.msgpack_head(count(*), 128, 222)
      ELSE @schema@.msgpack_head(count(*), 144, 220)
    END || coalesce(string_agg(
      CASE WHEN key IS NULL THEN '' ELSE @schema@.msgpack_utf8(key) END || CASE
        WHEN utf8 IS NOT NULL THEN @schema@.msgpack_utf8(utf8)
        WHEN number IS NOT NULL THEN @schema@.msgpack_number(number)
        WHEN type = 'null' THEN E'\\xc0'::bytea
        WHEN type = 'boolean' THEN CASE WHEN item::boolean THEN E'\\xc3'::bytea ELSE E'\\xc2'::bytea END
        ELSE @nested@
      END, ''), '')
  FROM (
    SELECT convert_to(name, 'UTF8') AS key, item, jsonb_typeof(item) AS type,
        CASE jsonb_typeof(item) WHEN 'string' THEN convert_to(item #>> '{}', 'UTF8') END AS utf8,
        CASE jsonb_typeof(item) WHEN 'number' THEN item::numeric END AS number
      FROM (
        SELECT name, item FROM jsonb_each(CASE jsonb_typeof(@value@) WHEN 'object' THEN @value@ END) AS field (name, item)
        UNION ALL
        SELECT NULL, item FROM jsonb_array_elements(CASE jsonb_typeof(@value@) WHEN 'array' THEN @value@ END) AS element (item)
      ) AS entry
      OFFSET 0
  ) AS @part@
)
