// What a script does that emits one event with the official emitter: the peer of `pgio emit`.

import { Emitter } from "@socket.io/postgres-emitter";
import pg from "pg";
import { settled } from "./settled.js";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
new Emitter(pool).to("r1").emit("tick", 1);
await settled(pool);
await pool.end();
