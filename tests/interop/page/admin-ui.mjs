// The official Admin UI in a real browser, connected to an instrumented Node server, with a pgio node beside it.
// Arguments: the URLs of both, the process id of the node, and a directory for pictures, if any.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { io } from "socket.io-client";

const [nodeUrl, pgioUrl, pid, pictures] = process.argv.slice(2);
const HOSTILE = "<img src=x onerror=alert(1)>";

// The page, as the package ships it.
const root = fileURLToPath(new URL("../node_modules/@socket.io/admin-ui/ui/dist", import.meta.url));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const http = createServer((request, response) => {
  const path = normalize(new URL(request.url, "http://page").pathname);
  const file = join(root, path === "/" ? "index.html" : path);
  assert.ok(dirname(file).startsWith(root));
  response.setHeader("content-type", TYPES[extname(file)] ?? "application/octet-stream");
  createReadStream(file).on("error", () => response.writeHead(404).end()).pipe(response);
}).listen(0, "127.0.0.1");
await once(http, "listening");
const pageUrl = `http://127.0.0.1:${http.address().port}`;

async function connect(url, ...transports) {
  const socket = io(url, { transports, forceNew: true, reconnection: false });
  await new Promise((resolve, reject) => socket.on("connect", resolve).on("connect_error", reject));
  return socket;
}

// As root, Chromium has no sandbox.
const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
const page = await (await browser.newContext({ viewport: { width: 1400, height: 900 } })).newPage();
page.setDefaultTimeout(20_000);
const troubles = [];
page.on("pageerror", (error) => troubles.push(`error: ${error.message}`));
page.on("dialog", (dialog) => troubles.push(`dialog: ${dialog.message()}`));
// Its fonts come from elsewhere.
await page.route((url) => url.hostname !== "127.0.0.1", (route) => route.abort());

const picture = async (name) => pictures && page.screenshot({ path: join(pictures, `admin-ui-${name}.png`) });
async function open(name) {
  await page.goto(`${pageUrl}/#/${name}/`);
  // The page that leaves stays for a moment.
  await page.waitForFunction(() => document.querySelectorAll(".v-data-table").length === 1);
  await page.locator(".v-breadcrumbs", { hasText: name[0].toUpperCase() + name.slice(1) }).waitFor();
}
const rows = (count) => page.waitForFunction((count) => document.querySelectorAll("tbody tr").length === count, count);
const row = (...texts) => texts.reduce((rows, hasText) => rows.filter({ hasText }), page.locator("tbody tr"));

async function step(name, work) {
  try {
    await work();
  } catch (error) {
    await picture(`failed-${name.replaceAll(" ", "-")}`);
    error.message = `${name}: ${error.message}`;
    throw error;
  }
}

try {
  const before = [await connect(pgioUrl, "websocket"), await connect(pgioUrl, "polling")];
  const ofNode = await connect(nodeUrl, "websocket");
  await before[0].emitWithAck("join", ["r1", HOSTILE]);

  await step("connect", async () => {
    await page.goto(pageUrl);
    await page.getByLabel("Server URL").fill(nodeUrl);
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByText("Connected").first().waitFor();
  });

  await step("servers", async () => {
    await open("servers");
    await row(`#${pid}`, pid, "Healthy").waitFor();
    await row("node", "Healthy").first().waitFor();
    // Both servers, and nothing else.
    await rows(2);
    await picture("servers");
  });

  const after = await connect(pgioUrl, "websocket");
  await step("sockets", async () => {
    await open("sockets");
    for (const socket of [...before, after, ofNode]) await row(socket.id).waitFor();
    await row(before[1].id, "HTTP long-polling").waitFor();
    await row(after.id, "127.0.0.1", "WebSocket").waitFor();
    await rows(4);
    await picture("sockets");
  });

  await step("clients", async () => {
    await open("clients");
    // Each socket has a client of its own. The page itself is one as well.
    for (const socket of [...before, after]) await row(socket.id.slice(0, 12)).waitFor();
    await rows(5);
    await picture("clients");
  });

  await step("rooms", async () => {
    await after.emitWithAck("join", "r1");
    await open("rooms");
    await row("r1").filter({ has: page.getByRole("cell", { name: "2", exact: true }) }).waitFor();
    await row(HOSTILE).filter({ has: page.getByRole("cell", { name: "1", exact: true }) }).waitFor();
    assert.equal(await page.locator("tbody img").count(), 0);
    await picture("rooms");
  });

  await step("join and disconnect", async () => {
    const { id } = after;
    await open("sockets");
    await row(id).click();
    await page.getByLabel("Join a room").fill("vip");
    await page.locator("form", { hasText: "Join a room" }).locator("button[type=submit]").click();
    await page.locator("tbody tr", { hasText: "vip" }).waitFor();
    await picture("socket");
    await open("sockets");
    const ended = once(after, "disconnect");
    await row(id).getByRole("button").click();
    assert.deepEqual((await ended)[0], "io server disconnect");
    // The click has opened the details as well.
    await page.getByText("disconnected").first().waitFor();
    await open("sockets");
    await rows(3);
    assert.equal(await row(id).count(), 0);
    await open("rooms");
    await row("r1").filter({ has: page.getByRole("cell", { name: "1", exact: true }) }).waitFor();
    await row("vip").waitFor({ state: "detached" });
  });

  await step("dashboard", async () => {
    await page.goto(pageUrl);
    await page.waitForFunction(() => document.querySelectorAll("canvas").length >= 4);
    await picture("dashboard");
  });
  assert.deepEqual(troubles, []);
  for (const socket of [...before, ofNode]) socket.disconnect();
} finally {
  await browser.close();
  http.close();
}
