// Emits from SQL with node-postgres, which sends parameters without their types.

import pg from "pg";

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
const emit = (event, args) => client.query("SELECT socket_io.emit($1, $2)", [event, args]);

// An object becomes JSON; an array would become one of Postgres, so it takes JSON.stringify.
await emit("json", { EUR: 42.5, list: [1, null, "hé \u{1d11e}"], none: {} });
await emit("several", JSON.stringify([1, "two", [3]]));
await client.query("SELECT socket_io.emit($1, to_jsonb($2::text))", ["one text", 'it\'s "quoted"']);
await client.query("SELECT socket_io.emit($1, $2::bytea)", ["bytes", Buffer.from([0, 0xca, 0xfe, 0xff])]);
await emit("big", JSON.stringify("é".repeat(20_000)));
await client.query("SELECT socket_io.emit($1)", ["nothing"]);
await client.query("SELECT socket_io.emit($1, rooms => $2)", ["elsewhere", ["nobody", "no one"]]);
await client.query("SELECT socket_io.emit('end')");
await client.end();
