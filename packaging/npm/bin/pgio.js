#!/usr/bin/env node
// Runs the binary of the platform's package with the same arguments, streams and signals, and exits as it does.
"use strict";
const { spawn } = require("node:child_process");
const { constants } = require("node:os");
const { isatty } = require("node:tty");

const child = spawn(binary(), process.argv.slice(2), { stdio: "inherit" });

// A terminal sends Ctrl+C to the child as well, so it is not passed on then: a second one would end the child at once.
// `process.stdin` and `process.stdout` must not be used: Node makes their pipes non-blocking, and the child shares them.
const atTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor));
process.on("SIGINT", () => atTerminal || child.kill("SIGINT"));
for (const signal of ["SIGTERM", "SIGHUP"]) {
  process.on(signal, () => child.kill(signal));
}

child.on("error", (error) => fail(`cannot run the binary: ${error.message}`));
child.on("exit", (status, signal) => {
  // As a shell says it: 128 and the number of the signal that ended the program.
  process.exit(signal ? 128 + constants.signals[signal] : status);
});

function binary() {
  const name = `@pgio/${process.platform}-${process.arch}`;
  try {
    return require.resolve(`${name}/bin/pgio`);
  } catch {
    return fail(
      `the package ${name} is not installed`,
      "a binary exists for Linux on x64 with glibc; there, install without --omit=optional. Elsewhere: cargo install pgio --features cli",
    );
  }
}

function fail(reason, hint) {
  console.error(`error: ${reason}`);
  if (hint) console.error(`hint: ${hint}`);
  process.exit(1);
}
