// Emits so many small events with the official emitter, and prints how many seconds that took:
// node emitter.js COUNT. From the first emit until Postgres has answered the last; start and connecting do not count.

import { Emitter } from "@socket.io/postgres-emitter";
import pg from "pg";
import { settled } from "./settled.js";

const count = Number(process.argv[2]);
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
await Promise.all(Array.from({ length: pool.options.max }, () => pool.query("SELECT 1")));

const room = new Emitter(pool).to("r1");
const start = performance.now();
for (let i = 0; i < count; i++) room.emit("tick", i);
await settled(pool);
console.log((performance.now() - start) / 1000);
await pool.end();
