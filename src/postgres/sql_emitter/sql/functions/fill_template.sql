-- Replaces each {name} of a template: {operation}, {schema} and {table} are those of the trigger, any other name is that
-- of a column. {{ and }} are braces. NULL where a value is.
CREATE OR REPLACE FUNCTION @schema@.fill_template(template text, columns jsonb, trigger_names jsonb) RETURNS text
LANGUAGE plpgsql STABLE
AS @body@
DECLARE
  filled text := '';
  rest text := template;
  parts text[];
  part text;
  name text;
BEGIN
  LOOP
    -- What comes before the first brace, what begins there, and what comes after it.
    parts := regexp_match(rest, '^([^{}]*)([{][{]|[}][}]|[{][^{}]*[}]|[{}])(.*)$');
    IF parts IS NULL THEN
      RETURN filled || rest;
    END IF;
    filled := filled || parts[1];
    part := parts[2];
    rest := parts[3];
    IF part IN ('{{', '}}') THEN
      filled := filled || left(part, 1);
    ELSIF part IN ('{', '}') THEN
      RAISE EXCEPTION '%template "%" has a single "%"', @schema@.origin(), template, part
        USING ERRCODE = 'syntax_error', DETAIL = 'A brace that is meant is written twice.';
    ELSE
      name := substr(part, 2, length(part) - 2);
      IF trigger_names -> name IS NOT NULL THEN
        filled := filled || (trigger_names ->> name);
      ELSIF columns -> name IS NOT NULL THEN
        filled := filled || (columns ->> name);
      ELSE
        RAISE EXCEPTION '%template "%" names "%", which is no column of the table', @schema@.origin(), template, name
          USING ERRCODE = 'undefined_column';
      END IF;
    END IF;
  END LOOP;
END
@body@;
