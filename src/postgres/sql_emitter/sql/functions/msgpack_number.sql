-- A number in msgpack: an integer where it is one, else the nearest double.
CREATE OR REPLACE FUNCTION @schema@.msgpack_number(value numeric) RETURNS bytea
LANGUAGE sql STABLE
AS @body@
  SELECT CASE
      WHEN value = trunc(value) AND value BETWEEN -9223372036854775808 AND 9223372036854775807
        THEN @schema@.msgpack_integer(value::bigint)
      WHEN abs(value) BETWEEN 1e-300 AND 1e18 THEN E'\\xcb'::bytea || float8send(value::float8)
      ELSE @schema@.msgpack_odd_number(value)
    END
@body@;
