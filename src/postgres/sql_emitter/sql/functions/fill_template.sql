-- Replaces each {name} of a template: {operation}, {schema} and {table} are those of the trigger, any other name is that
-- of a column. {{ and }} are braces. NULL where a value is.
CREATE OR REPLACE FUNCTION @schema@.fill_template(template text, columns jsonb, trigger_names jsonb) RETURNS text
LANGUAGE plpgsql STABLE
AS @body@
DECLARE
  filled text := '';
  part text;
  name text;
BEGIN
  FOR part IN
    SELECT matched[1] FROM regexp_matches(template, '[{][{]|[}][}]|[{][^{}]*[}]|[^{}]+|[{}]', 'g') AS matched
  LOOP
    IF part IN ('{{', '}}') THEN
      filled := filled || left(part, 1);
    ELSIF part IN ('{', '}') THEN
      RAISE EXCEPTION 'template "%" has a single "%"', template, part
        USING ERRCODE = 'syntax_error', DETAIL = 'A brace that is meant is written twice.';
    ELSIF left(part, 1) = '{' THEN
      name := substr(part, 2, length(part) - 2);
      IF trigger_names -> name IS NOT NULL THEN
        filled := filled || (trigger_names ->> name);
      ELSIF columns -> name IS NOT NULL THEN
        filled := filled || (columns ->> name);
      ELSE
        RAISE EXCEPTION 'template "%" names "%", which is no column of the table', template, name
          USING ERRCODE = 'undefined_column';
      END IF;
    ELSE
      filled := filled || part;
    END IF;
  END LOOP;
  RETURN filled;
END
@body@;
