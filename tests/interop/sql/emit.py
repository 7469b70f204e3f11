"""Emits from SQL with psycopg 3, which binds parameters in the server and sends their types."""

import os

import psycopg
from psycopg.types.json import Jsonb

with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    emit = "SELECT socket_io.emit(%s, %s)"
    connection.execute(emit, ("json", Jsonb({"EUR": 42.5, "list": [1, None, "hé \U0001d11e"], "none": {}})))
    connection.execute(emit, ("several", '[1, "two", [3]]'))
    connection.execute("SELECT socket_io.emit(%s, to_jsonb(%s::text))", ("one text", "it's \"quoted\""))
    connection.execute(emit, ("bytes", b"\x00\xca\xfe\xff"))
    connection.execute(emit, ("big", Jsonb("é" * 20_000)))
    connection.execute("SELECT socket_io.emit(%s)", ("nothing",))
    connection.execute("SELECT socket_io.emit(%s, rooms => %s)", ("elsewhere", ["nobody", "no one"]))
    with connection.transaction():
        connection.execute("SELECT socket_io.emit('end')")
