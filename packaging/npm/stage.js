// Writes the npm packages into a directory, from what `cargo metadata` says of the crate: the main package and one for each
// platform. The platform's binary is put into its bin directory afterwards.
//
//   cargo metadata --no-deps --format-version 1 | node stage.js DIRECTORY
"use strict";
const { copyFileSync, mkdirSync, readFileSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");

// The platforms that are released; the launcher asks for them by the same names.
const PLATFORMS = [{ os: "linux", cpu: "x64", libc: "glibc" }];

const directory = process.argv[2];
const crate = JSON.parse(readFileSync(0)).packages[0];
const common = {
  version: crate.version,
  license: crate.license,
  homepage: crate.homepage,
  repository: { type: "git", url: crate.repository },
};

const nameOf = ({ os, cpu }) => `@pgio/${os}-${cpu}`;

write("pgio", {
  name: "pgio",
  description: crate.description,
  keywords: crate.keywords.concat("socket.io", "cli"),
  ...common,
  bin: { pgio: "bin/pgio.js" },
  files: ["bin"],
  engines: { node: ">=18" },
  optionalDependencies: Object.fromEntries(PLATFORMS.map((platform) => [nameOf(platform), crate.version])),
});
copyFileSync(join(__dirname, "bin/pgio.js"), join(directory, "pgio/bin/pgio.js"));
copyFileSync(join(__dirname, "README.md"), join(directory, "pgio/README.md"));

for (const platform of PLATFORMS) {
  const { os, cpu, libc } = platform;
  write(`${os}-${cpu}`, {
    name: nameOf(platform),
    description: `The binary of pgio for ${os} on ${cpu}. Install the package pgio.`,
    ...common,
    files: ["bin"],
    os: [os],
    cpu: [cpu],
    libc: [libc],
    preferUnplugged: true,
  });
}

function write(folder, manifest) {
  mkdirSync(join(directory, folder, "bin"), { recursive: true });
  writeFileSync(join(directory, folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  copyFileSync(join(__dirname, "../../LICENSE"), join(directory, folder, "LICENSE"));
}
