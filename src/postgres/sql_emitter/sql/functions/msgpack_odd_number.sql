-- A number that is very large or very small, in msgpack: unsigned where it fits, else the nearest double.
CREATE OR REPLACE FUNCTION @schema@.msgpack_odd_number(value numeric) RETURNS bytea
LANGUAGE plpgsql STABLE
AS @body@
BEGIN
  IF value = trunc(value) AND value BETWEEN 9223372036854775808 AND 18446744073709551615 THEN
    RETURN E'\\xcf'::bytea || int8send((value - 18446744073709551616)::bigint);
  -- The conversion fails for what a double cannot hold, where JavaScript reads infinity or 0.
  ELSIF abs(value) >= 1.797693134862315807937289714053e308 THEN
    RETURN E'\\xcb'::bytea || float8send(CASE WHEN value < 0 THEN '-infinity' ELSE 'infinity' END::float8);
  ELSIF abs(value) <= 2.4703282292062327208828439643411e-324 THEN
    RETURN E'\\xcb'::bytea || float8send(0);
  END IF;
  RETURN E'\\xcb'::bytea || float8send(value::float8);
END
@body@;
