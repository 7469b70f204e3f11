"use strict";
// The page of pgio monitor. Text from the cluster becomes text nodes, and never markup: names cannot inject HTML (XSS).

const SVG = "http://www.w3.org/2000/svg";
const OVERVIEW_INTERVAL_MS = 2000;
const LIST_INTERVAL_MS = 10000;
const DOCTOR_INTERVAL_MS = 300000;
const MAX_LINES = 300;
const PAGE_SIZE = 25;

const $ = (id) => document.getElementById(id);

/** An element with a class and children; a string becomes a text node. */
function el(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Numbers

const whole = new Intl.NumberFormat("en");

function count(number) {
  return number === null || number === undefined ? "–" : whole.format(Math.round(number));
}

function rate(number) {
  if (number === null || number === undefined) return "–";
  return number > 0 && number < 10 ? number.toFixed(1) : whole.format(Math.round(number));
}

function bytes(number) {
  if (number === null || number === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${unit === 0 || number >= 100 ? Math.round(number) : number.toFixed(1)} ${units[unit]}`;
}

function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

// Requests

let isUnreachable = false;

async function request(path) {
  try {
    const response = await fetch(path, { credentials: "same-origin", cache: "no-store" });
    if (response.status === 401) {
      location.reload();
      return null;
    }
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    isUnreachable = false;
    return await response.json();
  } catch {
    isUnreachable = true;
    setStatus("down", "the monitor does not answer");
    return null;
  }
}

function setStatus(name, text) {
  $("status").className = `pill ${name}`;
  if ($("status").textContent !== text) $("status").textContent = text;
}

// Tiles and facts

// Twelve tiles fill whole rows of 2, 3, 4, 6 and 12 columns (app.css).
const TILES = [
  ["Servers", (now) => count(now.nodes), (now) => now.namespaces.join(" ")],
  ["Sockets", (now) => count(now.sockets), (now) => (now.asksForSockets ? (now.socketsAgeSeconds === null ? "requested" : `${time(now.socketsAgeSeconds)} ago`) : "--no-sockets")],
  ["Rooms", (now) => count(now.rooms), () => ""],
  ["Events/s", (now) => rate(now.eventsPerSecond), () => ""],
  ["Messages/s", (now) => rate(now.messagesPerSecond), () => "all types"],
  ["Bytes/s", (now) => bytes(now.inlineBytesPerSecond + now.attachmentBytesPerSecond), (now) => `${bytes(now.attachmentBytesPerSecond)} attached`],
  ["Acks/s", (now) => rate(now.acksPerSecond), () => ""],
  ["Missed", (now) => count(now.missedInAll), () => "by the monitor", (now) => now.missedInAll > 0],
  ["Commits/s", (now) => rate(now.commitsPerSecond), () => "of the database"],
  ["WAL/s", (now) => bytes(now.walBytesPerSecond), () => "of the server"],
  ["Queue used", (now) => (now.queueUsage === null ? "–" : `${(now.queueUsage * 100).toFixed(1)} %`), () => "NOTIFY queue", (now) => now.queueUsage > 0.5],
  ["Attachments", (now) => count(now.attachments?.rows), (now) => (now.attachments ? bytes(now.attachments.bytes) : "no table")],
];

function drawTiles(now) {
  const tiles = $("tiles");
  if (!tiles.children.length) {
    for (const [label] of TILES) {
      tiles.append(el("div", "tile", el("div", "label", label), el("div", "value"), el("div", "note")));
    }
  }
  TILES.forEach(([, value, note, isAlarm], index) => {
    const tile = tiles.children[index];
    tile.children[1].textContent = value(now);
    tile.children[2].textContent = note(now);
    tile.classList.toggle("alarm", Boolean(isAlarm?.(now)));
  });
}

function drawAttachments(table) {
  const facts = $("attachments-facts");
  if (!table) {
    facts.replaceChildren(el("div", "", el("dt", "", "State"), el("dd", "", "no table that this role may read")));
    return;
  }
  const about = table.isEstimate ? "about " : "";
  const rows = [
    ["Rows", about + count(table.rows)],
    ["Size of messages", bytes(table.bytes)],
    ["On disk", bytes(table.diskBytes)],
    ["Oldest row", table.oldestAgeMs === null ? "none" : `${time(table.oldestAgeMs / 1000)} ago`],
  ];
  facts.replaceChildren(...rows.map(([name, value]) => el("div", "", el("dt", "", name), el("dd", "", value))));
}

async function overview() {
  const now = await request("/api/overview");
  if (!now) return;
  const problem = now.lost ? `no connection to Postgres: ${now.lost}` : now.problem;
  setStatus(problem ? "down" : "up", problem ?? "connected");
  $("database").textContent = now.database;
  $("namespaces").textContent = now.namespaces.join(" ");
  document.body.classList.toggle("single", now.namespaces.length === 1);
  $("uptime").textContent = `observing for ${time(now.uptimeSeconds)}`;
  $("logout").hidden = !now.needsToken;
  drawTiles(now);
  drawAttachments(now.attachments);
}

// Charts

/** Draws ten minutes as an SVG: one or two series, each an area below a line. */
function chart(id, title, show, series) {
  const width = 600;
  const height = 100;
  const maximum = Math.max(1, ...series.flatMap(({ values }) => values));
  const x = (index, length) => ((600 - length + index + 1) / 600) * width;
  const y = (value) => height - (value / maximum) * height;
  const parts = [0, 0.5, 1].map((part) => svg("line", { class: "grid", x1: 0, x2: width, y1: height * part, y2: height * part }));
  series.forEach(({ values }, place) => {
    if (!values.length) return;
    const points = values.map((value, index) => `${x(index, values.length).toFixed(1)} ${y(value).toFixed(1)}`);
    const name = place === 0 ? "" : " second";
    const [first, last] = [x(0, values.length).toFixed(1), x(values.length - 1, values.length).toFixed(1)];
    parts.push(svg("path", { class: `area${name}`, d: `M${first} ${height}L${points.join("L")}L${last} ${height}Z` }));
    parts.push(svg("path", { class: `line${name}`, d: `M${points.join("L")}` }));
  });
  const last = (values) => values[values.length - 1] ?? 0;
  const summary = series.map(({ label, values }) => `${label} ${show(last(values))}`).join(", ");
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: now ${summary}, maximum ${show(maximum)}` }, ...parts);
  const keys = el("span", "", ...series.map(({ label, values }, place) => el("span", place ? "key second" : "key", `${label} ${show(last(values))}`)));
  const caption = el("figcaption", "", el("span", "name", title), keys);
  const ends = el("div", "ends dim", el("span", "", "10 min ago"), el("span", "", `maximum ${show(maximum)}`), el("span", "", "now"));
  $(id).replaceChildren(caption, picture, ends);
}

async function history() {
  const past = await request("/api/history");
  if (!past) return;
  chart("chart-events", "Events and acknowledgements per second", rate, [
    { label: "events", values: past.events },
    { label: "acks", values: past.acks },
  ]);
  chart("chart-bytes", "Bytes per second", bytes, [
    { label: "inline", values: past.inlineBytes },
    { label: "attachments", values: past.attachmentBytes },
  ]);
  chart("chart-sockets", "Sockets", count, [{ label: "sockets", values: past.sockets }]);
  chart("chart-commits", "Commits per second", rate, [{ label: "commits", values: past.commits }]);
}

// Tables

function table(titles, rows, empty) {
  if (!rows.length) return el("p", "empty", empty);
  const head = el("tr", "", ...titles.map(([title, name, hint]) => {
    const cell = el("th", name, title);
    if (hint) cell.title = hint;
    cell.scope = "col";
    return cell;
  }));
  return el("table", "", el("thead", "", head), el("tbody", "", ...rows.map((cells) => el("tr", "", ...cells))));
}

function name(text, title) {
  const cell = el("td", "name", text);
  if (title) cell.title = title;
  return cell;
}

/** The namespace of a row. It is hidden if there is only one namespace. */
const nsp = (text) => el("td", "name nsp", text);

const number = (text) => el("td", "number", text);

/** Replaces a table, unless the focus is in it: so the focus and the selection survive. */
function put(id, content) {
  const place = $(id);
  if (place !== document.activeElement && place.contains(document.activeElement)) return;
  const { scrollTop, scrollLeft } = place;
  place.replaceChildren(content);
  place.scrollTop = scrollTop;
  place.scrollLeft = scrollLeft;
}

function trend(values) {
  const maximum = Math.max(1, ...values);
  const points = values.map((value, index) => `${((60 - values.length + index + 1) / 60) * 100} ${20 - (value / maximum) * 19}`);
  const lines = points.length ? [svg("path", { class: "line", d: `M${points.join("L")}` })] : [];
  return el("td", "number", svg("svg", { class: "trend", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines));
}

let by = "event";

async function rates() {
  const query = new URLSearchParams({ by, sort: $("rates-sort").value, search: $("rates-search").value, limit: "50" });
  const found = await request(`/api/rates?${query}`);
  if (!found || found.by !== by) return;
  const titles = { event: "Event", room: "Room", sender: "Sender" };
  const placeholders = { event: "no name", room: "all sockets", sender: "no name" };
  const row = (one, label) => [
    name(label ?? one.name ?? el("em", "", placeholders[by]), one.name),
    nsp(one.namespace),
    number(rate(one.perSecond)),
    number(bytes(one.bytesPerSecond)),
    number(count(one.count)),
    trend(one.trend),
  ];
  const rows = found.rows.map((one) => row(one));
  const more = found.matching - found.rows.length;
  if (found.other.count > 0 && !$("rates-search").value) rows.push(row(found.other, el("em", "", "others")));
  const heads = [[titles[by], ""], ["Namespace", "nsp"], ["Per second", "number"], ["Bytes/s", "number"], ["10 min", "number", "Messages in the last ten minutes"], ["Trend", "number", "Messages per second in the last minute"]];
  const content = el("div", "", table(heads, rows, $("rates-search").value ? "No name matches." : "No messages in the last ten minutes."));
  if (more > 0) content.append(el("p", "empty", `and ${count(more)} more: use the search to find them`));
  put("rates-table", content);
}

function rankBy(what) {
  by = what;
  for (const tab of ["event", "room", "sender"]) {
    const button = $(`by-${tab}`);
    button.setAttribute("aria-selected", String(tab === what));
    button.tabIndex = tab === what ? 0 : -1;
  }
  $("rates-table").setAttribute("aria-labelledby", `by-${what}`);
  $("rates-table").scrollTop = 0;
  rates();
}

/** A list with pagination by the server. */
class List {
  constructor(id, path, key, draw) {
    Object.assign(this, { id, path, key, draw, offset: 0, matching: 0, extra: {}, wanted: 0 });
    const pager = $(`${id}-pager`);
    this.before = el("button", "", "‹");
    this.before.setAttribute("aria-label", `Previous ${key}`);
    this.after = el("button", "", "›");
    this.after.setAttribute("aria-label", `Next ${key}`);
    this.where = el("span", "");
    pager.append(this.before, this.where, this.after);
    this.before.addEventListener("click", () => this.go(this.offset - PAGE_SIZE));
    this.after.addEventListener("click", () => this.go(this.offset + PAGE_SIZE));
    onSearch(`${id}-search`, () => this.go(0));
  }

  go(offset) {
    this.offset = Math.max(0, offset);
    $(`${this.id}-table`).scrollTop = 0;
    return this.load();
  }

  async load() {
    const wanted = ++this.wanted;
    const query = new URLSearchParams({ offset: this.offset, limit: PAGE_SIZE, search: $(`${this.id}-search`).value, ...this.extra });
    const found = await request(`${this.path}?${query}`);
    // The response is stale: there is a newer request for this list.
    if (!found || wanted !== this.wanted) return;
    if (this.offset > 0 && this.offset >= found.matching) {
      await this.go(Math.floor(Math.max(0, found.matching - 1) / PAGE_SIZE) * PAGE_SIZE);
      return;
    }
    const items = found[this.key];
    put(`${this.id}-table`, this.draw(items));
    const last = this.offset + items.length;
    this.where.textContent = items.length ? `${count(this.offset + 1)}–${count(last)} of ${count(found.matching)}` : "0";
    this.before.disabled = this.offset === 0;
    this.after.disabled = last >= found.matching;
  }
}

function onSearch(id, search) {
  let timer = 0;
  $(id).addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 200);
  });
}

/** A button that shows the sockets of a room or a server. */
function only(label, extra, description) {
  const button = el("button", "", label);
  button.title = `Show the sockets ${description}`;
  button.addEventListener("click", () => showOnly(extra, description));
  return el("td", "name", button);
}

/** The cell of a server, with the address and application_name of its connection to Postgres. */
function server(node) {
  const cell = only(node.uid, { node: node.uid }, `of ${node.uid}`);
  const client = [node.application, node.address].filter(Boolean).join(" at ");
  if (client) cell.append(el("div", "dim", client));
  return cell;
}

function showOnly(extra, description) {
  lists.sockets.extra = extra;
  const clear = el("button", "", "Show all");
  clear.addEventListener("click", () => {
    lists.sockets.extra = {};
    $("sockets-only").hidden = true;
    lists.sockets.go(0);
  });
  $("sockets-only").replaceChildren(`${description} `, clear);
  $("sockets-only").hidden = false;
  lists.sockets.go(0);
  $("sockets").scrollIntoView({ block: "nearest" });
  clear.focus({ preventScroll: true });
}

const lists = {
  servers: new List("servers", "/api/nodes", "nodes", (nodes) => table(
    [["Server", ""], ["Namespace", "nsp"], ["Round trip", "number"], ["Last seen", "number"], ["Sockets", "number"]],
    nodes.map((node) => [server(node), nsp(node.namespace), number(node.rttMs === null ? "–" : `${node.rttMs} ms`), number(`${time(node.lastSeenSeconds)} ago`), number(count(node.sockets))]),
    "No server is live.",
  )),
  rooms: new List("rooms", "/api/rooms", "rooms", (rooms) => table(
    [["Room", ""], ["Namespace", "nsp"], ["Sockets", "number"], ["Servers", "number"]],
    rooms.map((room) => [only(room.room, { room: room.room }, `in ${room.room}`), nsp(room.namespace), number(count(room.sockets)), number(count(room.nodes))]),
    "No rooms.",
  )),
  sockets: new List("sockets", "/api/sockets", "sockets", (sockets) => table(
    [["Socket", ""], ["Server", ""], ["Namespace", "nsp"], ["Connected", "number"], ["Address", ""], ["Transport", ""], ["Rooms", ""], ["Data", ""]],
    sockets.map((socket) => {
      const more = socket.roomsTotal - socket.rooms.length;
      const rooms = socket.rooms.join(", ") + (more > 0 ? ` and ${count(more)} more` : "");
      const since = socket.connectedAt === null ? "–" : `${time((Date.now() - Date.parse(socket.connectedAt)) / 1000)} ago`;
      return [name(socket.id), name(socket.node), nsp(socket.namespace), number(since), name(socket.address ?? "–"), name(socket.transport ?? "–"), name(rooms, rooms), name(socket.data, socket.data)];
    }),
    "No sockets.",
  )),
};

// Live traffic

let source = null;
let isPaused = false;
let waiting = [];
let skippedTotal = 0;

function message(one) {
  const parts = [el("span", "time", one.time.slice(11, 23)), el("span", "nsp", one.namespace ?? "")];
  if (one.event !== undefined) {
    if (one.type !== "broadcast") parts.push(el("span", "kind", one.type));
    parts.push(el("span", "event", one.event ?? "(no name)"));
  } else {
    parts.push(el("span", "kind", one.type));
  }
  if (one.rooms?.length) {
    const more = one.moreRooms > 0 ? ` and ${count(one.moreRooms)} more` : "";
    parts.push(el("span", "to", `to ${one.rooms.join(", ")}${more}`));
  }
  parts.push(el("span", "from", `from ${one.uid ?? "?"}`));
  parts.push(el("span", "size", bytes(one.bytes) + (one.attachment ? `, attachment ${one.attachment}` : "")));
  if (one.error) parts.push(el("span", "error", one.error));
  if (one.text) parts.push(el("span", "text", one.text));
  return el("div", "message", ...parts);
}

let received = [];
let isDrawing = false;

/** Draws the received messages, at most once a frame. */
function drawMessages() {
  isDrawing = false;
  if (!received.length) return;
  const lines = $("lines");
  const isAtTop = lines.scrollTop < 5;
  const height = lines.scrollHeight;
  lines.prepend(...received.slice(-MAX_LINES).reverse().map(message));
  received = [];
  while (lines.children.length > MAX_LINES) lines.lastChild.remove();
  // Keeps the scroll position of a reader further down.
  if (!isAtTop) lines.scrollTop += lines.scrollHeight - height;
}

function showLiveState() {
  const parts = [];
  if (isPaused) parts.push(`paused, ${count(waiting.length)}${waiting.length >= MAX_LINES ? "+" : ""} new`);
  if (skippedTotal > 0) parts.push(`${count(skippedTotal)} not shown (rate limit): use a filter`);
  $("skipped").textContent = parts.join("; ");
}

function connect() {
  source?.close();
  skippedTotal = 0;
  const query = new URLSearchParams({ search: $("live-search").value, heartbeats: $("heartbeats").checked ? "1" : "0" });
  source = new EventSource(`/api/live?${query}`);
  source.addEventListener("message", (event) => {
    const one = JSON.parse(event.data);
    if (isPaused) {
      waiting.push(one);
      if (waiting.length > MAX_LINES) waiting.shift();
      showLiveState();
      return;
    }
    received.push(one);
    if (received.length > MAX_LINES) received.shift();
    if (!isDrawing) {
      isDrawing = true;
      requestAnimationFrame(drawMessages);
    }
  });
  source.addEventListener("skipped", (event) => {
    skippedTotal = Number(event.data);
    showLiveState();
  });
  source.addEventListener("error", () => {
    // After an HTTP error (503: too many viewers, 401: invalid token) the browser does not reconnect automatically.
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => document.hidden || connect(), 5000);
  });
  showLiveState();
}

function filterLive() {
  $("lines").replaceChildren();
  received = [];
  waiting = [];
  connect();
}

function pause() {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  $("pause").textContent = isPaused ? "Resume" : "Pause";
  if (!isPaused) {
    received = waiting;
    waiting = [];
    drawMessages();
  }
  showLiveState();
}

// Doctor

let isChecking = false;

async function runDoctor(isFresh) {
  if (isChecking) return;
  isChecking = true;
  $("run-doctor").disabled = true;
  $("doctor-age").textContent = "checking";
  const answer = await request(`/api/doctor${isFresh ? "?fresh=1" : ""}`);
  isChecking = false;
  $("run-doctor").disabled = false;
  if (!answer) return;
  $("doctor-age").textContent = answer.ageSeconds < 2 ? "just checked" : `checked ${time(answer.ageSeconds)} ago`;
  const { findings = [], error } = answer.result;
  const order = ["fail", "warn", "ok"];
  const sorted = [...findings].sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status));
  const items = sorted.map((one) => el("li", one.status, el("span", "status", one.status), el("span", "", one.check), el("span", "detail", one.detail, one.advice ? el("span", "advice", `→ ${one.advice}`) : null)));
  if (error) items.unshift(el("li", "fail", el("span", "status", "fail"), el("span", "", "doctor"), el("span", "detail", error)));
  $("findings").replaceChildren(...items);
}

// Keyboard, and polling

function isTyping(target) {
  return target instanceof HTMLInputElement || target instanceof HTMLSelectElement;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && isTyping(event.target)) event.target.blur();
  if (isTyping(event.target)) return;
  const ranks = { 1: "event", 2: "room", 3: "sender" };
  if (event.key === "/") {
    event.preventDefault();
    $("live-search").focus();
  } else if (event.key === "p") {
    pause();
  } else if (ranks[event.key]) {
    rankBy(ranks[event.key]);
  }
});

for (const what of ["event", "room", "sender"]) {
  const tab = $(`by-${what}`);
  tab.addEventListener("click", () => rankBy(what));
  tab.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: 2 }[event.key];
    if (!steps) return;
    const all = ["event", "room", "sender"];
    const next = all[(all.indexOf(what) + steps) % all.length];
    rankBy(next);
    $(`by-${next}`).focus();
  });
}
onSearch("rates-search", rates);
$("rates-sort").addEventListener("change", rates);
onSearch("live-search", filterLive);
$("heartbeats").addEventListener("change", filterLive);
$("pause").addEventListener("click", pause);
$("run-doctor").addEventListener("click", () => runDoctor(true));

/** Polls while the page is visible. The interval begins at the end of the last request. */
function repeat(interval, work) {
  const step = async () => {
    if (!document.hidden) await work();
    setTimeout(step, isUnreachable ? Math.max(interval, 5000) : interval);
  };
  step();
}

repeat(OVERVIEW_INTERVAL_MS, async () => {
  await Promise.all([overview(), history(), rates()]);
});
repeat(LIST_INTERVAL_MS, async () => {
  await Promise.all(Object.values(lists).map((list) => list.load()));
});
// The first answers of the servers come within seconds.
for (const delay of [1500, 4000]) setTimeout(() => Object.values(lists).forEach((list) => list.load()), delay);
repeat(DOCTOR_INTERVAL_MS, () => runDoctor(false));
document.addEventListener("visibilitychange", () => (document.hidden ? source.close() : connect()));
connect();
