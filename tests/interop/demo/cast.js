// Draws what a program prints as an animated SVG: node cast.js TITLE COMMAND... >cast.svg. Lines appear in the order of the run, at
// a pace for reading. Where animations are off, the whole text is there.

import { spawn } from "node:child_process";

const [title, ...command] = process.argv.slice(2);
const [LINE, COLUMN, FONT, PAD] = [21, 8.43, 14, 18]; // pixels
const [SHORTEST, STEP, TYPING, REST] = [0.25, 1.3, 0.03, 6]; // seconds; TYPING is for each character

// In a terminal of its own, so that it prints as for people.
const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
const child = spawn("script", ["-qec", quoted, "/dev/null"], { stdio: ["ignore", "pipe", "inherit"] });
let printed = "";
child.stdout.setEncoding("utf8");
child.stdout.on("data", (chunk) => {
  printed += chunk;
});
child.on("close", (status) => {
  if (status !== 0) {
    process.stderr.write(printed);
    process.exit(1);
  }
  process.stdout.write(svg(printed.replaceAll("\r", "").trimEnd().split("\n").map(read)));
});

/** A line, without its colours: a heading is bold, a command is dim. */
function read(line) {
  const kind = line.includes("\x1b[1m") ? "heading" : line.includes("\x1b[2m") ? "command" : "output";
  // The password of a database that is gone.
  const text = line.replace(/\x1b\[[0-9;]*m/g, "").replace(/(postgres:\/\/\w+:)\w+@/, "$1…@");
  return { kind, text };
}

function svg(lines) {
  let time = 0.6;
  const shown = lines.map((line) => {
    time += line.kind === "heading" ? STEP : line.text ? SHORTEST : 0;
    const from = time;
    if (line.kind === "command") time += line.text.trim().length * TYPING;
    return { ...line, from, to: time };
  });
  const duration = time + REST;
  const at = (moment) => `${((moment / duration) * 100).toFixed(2)}%`;
  const width = Math.ceil(Math.max(...lines.map((line) => line.text.length)) * COLUMN + 2 * PAD);
  const height = (lines.length + 1) * LINE + 2 * PAD;
  const frames = [];
  const texts = shown.map((line, index) => {
    if (!line.text) return "";
    const hidden = "clip-path:inset(0 100% 0 0)";
    const whole = "clip-path:inset(0 0 0 0)";
    frames.push(
      line.kind === "command"
        ? `@keyframes l${index}{0%,${at(line.from)}{${hidden}}${at(line.to)},100%{${whole}}}`
        : `@keyframes l${index}{0%,${at(line.from)}{opacity:0}${at(line.from + 0.12)},100%{opacity:1}}`,
    );
    const y = PAD + LINE * (index + 2) - 6;
    return `<text class="${line.kind}" x="${PAD}" y="${y}" style="animation-name:l${index}">${escape(line.text)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escape(title)}">
<title>${escape(title)}</title>
<style>
rect{fill:#fbfcfe;stroke:#d5dbe5}
text{font:${FONT}px ui-monospace,"SFMono-Regular",Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre;fill:#1c2430;animation-duration:${duration.toFixed(2)}s;animation-iteration-count:infinite;animation-timing-function:linear}
.heading{font-weight:700}
.command{fill:#0b6bcb}
.title{fill:#697586;animation:none}
circle{fill:#c3cad6}
@media (prefers-color-scheme:dark){rect{fill:#10151d;stroke:#2a3442}text{fill:#d3d7de}.command{fill:#6cb6ff}.title{fill:#8b96a5}circle{fill:#3a4554}}
@media (prefers-reduced-motion:reduce){text{animation:none!important}}
${frames.join("\n")}
</style>
<rect x=".5" y=".5" width="${width - 1}" height="${height - 1}" rx="8"/>
<circle cx="20" cy="18" r="5"/><circle cx="38" cy="18" r="5"/><circle cx="56" cy="18" r="5"/>
<text class="title" x="${width / 2}" y="23" text-anchor="middle">${escape(title)}</text>
${texts.filter(Boolean).join("\n")}
</svg>
`;
}

function escape(text) {
  return text.replace(/[&<>"]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[one]);
}
