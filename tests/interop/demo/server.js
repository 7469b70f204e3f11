// A Socket.IO server as an application would write it, on Node and adapter 0.5.0.

import { createServer } from "node:http";
import { createAdapter } from "adapter-0.5";
import pg from "pg";
import { Server } from "socket.io";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
await pool.query(`CREATE TABLE IF NOT EXISTS socket_io_attachments (
  id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)`);

const http = createServer();
const io = new Server(http, { adapter: createAdapter(pool) });
io.on("connection", (socket) => {
  socket.data = socket.handshake.auth;
  socket.on("join", (room, done) => {
    socket.join(room);
    done([...socket.rooms]);
  });
});
http.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${http.address().port}`));
